//! From the bytes of a verified body to the few fields of a Stripe event that matter here.

use std::borrow::Cow;

use jiff::Timestamp;
use runtime::shape::{self, Misshapen};
use schema::EventId;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::members::Members;

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
    shape::check(body)?;
    let raw: &RawValue = serde_json::from_str(text)?;
    let Members(envelope) = serde_json::from_str(raw.get())?;
    let envelope: Envelope<'_> = envelope.ok_or(Unreadable::NotAnObject)?;

    let subject = match envelope.object.as_ref().map(|Text(word)| &**word) {
        None | Some("event") => subject(envelope.data)?,
        Some(THIN) => related(envelope.related_object),
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
        subject,
        raw,
    })
}

/// What is read of the envelope, and below of what it holds. A field that is read and comes twice is refused, since
/// readers differ on which one counts.
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
    data: Option<Members<Data<'a>>>,
    #[serde(borrow)]
    related_object: Option<Members<Related<'a>>>,
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
#[serde(untagged, expecting = "`created` is Unix seconds or RFC 3339 text")]
enum Created<'a> {
    Unix(i64),
    Rfc3339(#[serde(borrow)] Cow<'a, str>),
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    object: Option<Members<Object<'a>>>,
}

/// Fields of a snapshot's object. Their types are Stripe's affair: one that is no text tells nothing.
#[derive(Deserialize)]
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
    last_payment_error: Option<Members<Failure<'a>>>,
    /// Setup intents.
    #[serde(borrow)]
    last_setup_error: Option<Members<Failure<'a>>>,
    /// Invoices.
    #[serde(borrow)]
    last_finalization_error: Option<Members<Failure<'a>>>,
}

#[derive(Deserialize)]
struct Failure<'a> {
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Related<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    object: Option<&'a RawValue>,
}

fn created(created: Created<'_>) -> Result<Timestamp, Unreadable> {
    match created {
        Created::Unix(seconds) => Timestamp::from_second(seconds).ok(),
        Created::Rfc3339(text) => text.parse().ok(),
    }
    .ok_or(Unreadable::Field("`created` is not a moment"))
}

fn subject(data: Option<Members<Data<'_>>>) -> Result<Subject<'_>, Unreadable> {
    let data = match data {
        None => None,
        Some(Members(Some(data))) => Some(data),
        Some(Members(None)) => return Err(Unreadable::Field("`data` is not an object")),
    };
    let Some(object) = members(data.and_then(|data| data.object)) else {
        return Ok(Subject::default());
    };
    let failures = [
        object.last_payment_error,
        object.last_setup_error,
        object.last_finalization_error,
    ];
    let messages = failures
        .into_iter()
        .map(|failure| members(failure)?.message);
    Ok(Subject {
        id: text(object.id),
        object: text(object.object),
        failure: std::iter::once(object.failure_message)
            .chain(messages)
            .find_map(text),
    })
}

fn related(object: Option<Members<Related<'_>>>) -> Subject<'_> {
    members(object).map_or_else(Subject::default, |related| Subject {
        id: text(related.id),
        object: text(related.object),
        failure: None,
    })
}

fn members<T>(value: Option<Members<T>>) -> Option<T> {
    value.and_then(|Members(members)| members)
}

/// The text, if it is one and says something.
fn text(raw: Option<&RawValue>) -> Option<Cow<'_, str>> {
    let Text(text) = serde_json::from_str(raw?.get()).ok()?;
    (!text.is_empty()).then_some(text)
}
