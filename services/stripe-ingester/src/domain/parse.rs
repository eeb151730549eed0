//! From the bytes of a verified body to the few fields of a Stripe event that matter here.

use std::borrow::Cow;

use jiff::Timestamp;
use schema::EventId;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::shape::{self, Misshapen};

/// The longest event type, in bytes.
const TYPE_MAX: usize = 128;
/// What a thin event calls itself.
const THIN: &str = "v2.core.event";

/// A Stripe event, borrowed from its body.
#[derive(Debug)]
pub struct StripeEvent<'a> {
    pub id: EventId,
    pub event_type: Cow<'a, str>,
    pub created: Timestamp,
    pub subject: Subject<'a>,
    /// The body as it came, without the blanks around it.
    pub raw: &'a RawValue,
}

/// What the event is about, as far as it says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Subject<'a> {
    pub id: Option<Cow<'a, str>>,
    /// The kind of object, such as `payout`.
    pub object: Option<Cow<'a, str>>,
    /// What went wrong, in Stripe's words.
    pub failure: Option<Cow<'a, str>>,
}

/// Why a body is not an event that can be stored.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("the body is not UTF-8")]
    NotUtf8,
    #[error("the body is not a JSON object")]
    NotAnObject,
    #[error(transparent)]
    Misshapen(#[from] Misshapen),
    #[error("the body is not a Stripe event: {0}")]
    NotAnEvent(#[from] serde_json::Error),
    #[error("the body is not a Stripe event: {0}")]
    Field(&'static str),
}

/// Reads a Stripe event, snapshot or thin.
pub fn parse(body: &[u8]) -> Result<StripeEvent<'_>, Unreadable> {
    let text = str::from_utf8(body).map_err(|_| Unreadable::NotUtf8)?;
    // serde would also read an array as a struct, field by field.
    if !is_object(text.trim_ascii_start()) {
        return Err(Unreadable::NotAnObject);
    }
    shape::check(body)?;
    let raw: &RawValue = serde_json::from_str(text)?;
    let envelope: Envelope<'_> = serde_json::from_str(raw.get())?;

    let thin = match envelope.object.as_ref().map(|Text(word)| &**word) {
        None | Some("event") => false,
        Some(THIN) => true,
        Some(_) => return Err(Unreadable::Field("`object` is not an event's")),
    };
    let Text(id) = envelope.id;
    let Text(event_type) = envelope.event_type;
    if !(1..=TYPE_MAX).contains(&event_type.len()) {
        return Err(Unreadable::Field("`type` is empty or too long"));
    }
    Ok(StripeEvent {
        id: EventId::parse(&id).ok_or(Unreadable::Field("`id` is not an event's id"))?,
        event_type,
        created: created(envelope.created)?,
        subject: if thin {
            envelope
                .related_object
                .map_or_else(Subject::default, related)
        } else {
            subject(envelope.data)?
        },
        raw,
    })
}

/// What is read of the envelope; a field that comes twice is refused, since readers differ on which one counts.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow, rename = "type")]
    event_type: Text<'a>,
    #[serde(borrow)]
    object: Option<Text<'a>>,
    #[serde(borrow)]
    created: Created<'a>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    related_object: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
#[serde(untagged, expecting = "`created` is Unix seconds or RFC 3339 text")]
enum Created<'a> {
    Unix(i64),
    Rfc3339(#[serde(borrow)] Cow<'a, str>),
}

fn created(created: Created<'_>) -> Result<Timestamp, Unreadable> {
    match created {
        Created::Unix(seconds) => Timestamp::from_second(seconds).ok(),
        Created::Rfc3339(text) => text.parse().ok(),
    }
    .ok_or(Unreadable::Field("`created` is not a moment"))
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    object: Option<&'a RawValue>,
}

/// Fields of a snapshot's object. Their types are Stripe's affair: one that is no text tells nothing.
#[derive(Default, Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    /// Payouts, charges, top-ups.
    #[serde(borrow)]
    failure_message: Option<&'a RawValue>,
    /// Payment intents.
    #[serde(borrow)]
    last_payment_error: Option<&'a RawValue>,
    /// Setup intents.
    #[serde(borrow)]
    last_setup_error: Option<&'a RawValue>,
    /// Invoices.
    #[serde(borrow)]
    last_finalization_error: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Failure<'a> {
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Related<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    object: Option<&'a RawValue>,
}

fn subject(data: Option<&RawValue>) -> Result<Subject<'_>, Unreadable> {
    let Some(data) = data else {
        return Ok(Subject::default());
    };
    if !is_object(data.get()) {
        return Err(Unreadable::Field("`data` is not an object"));
    }
    let data: Data<'_> = serde_json::from_str(data.get())?;
    let object: Object<'_> = fields(data.object);
    let failures = [
        object.last_payment_error,
        object.last_setup_error,
        object.last_finalization_error,
    ];
    let failure = failures
        .into_iter()
        .map(|failure| fields::<Failure<'_>>(failure).message);
    Ok(Subject {
        id: text(object.id),
        object: text(object.object),
        failure: std::iter::once(object.failure_message)
            .chain(failure)
            .find_map(text),
    })
}

fn related(object: &RawValue) -> Subject<'_> {
    let related: Related<'_> = fields(Some(object));
    Subject {
        id: text(related.id),
        object: text(related.object),
        failure: None,
    }
}

/// The fields of an object; none where there is no object to read.
fn fields<'a, T: Deserialize<'a> + Default>(raw: Option<&'a RawValue>) -> T {
    raw.map(RawValue::get)
        .filter(|json| is_object(json))
        .and_then(|json| serde_json::from_str(json).ok())
        .unwrap_or_default()
}

/// The text, if it is one and says something.
fn text(raw: Option<&RawValue>) -> Option<Cow<'_, str>> {
    let Text(text) = serde_json::from_str(raw?.get()).ok()?;
    (!text.is_empty()).then_some(text)
}

fn is_object(json: &str) -> bool {
    json.starts_with('{')
}
