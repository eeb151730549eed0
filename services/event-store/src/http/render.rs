//! Answers put together as bytes: `raw` goes out as it came, and is not read again (R9).

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use jiff::Timestamp;
use schema::delivery::DeliveryState;
use schema::feed::Action;
use schema::{Kind, Severity};
use serde::Serialize;

use crate::domain::page::Page;
use crate::domain::record::{History, Notice, Record};
use crate::storage::FeedSlice;

type Rendered = Result<Vec<u8>, serde_json::Error>;

/// A JSON answer of these bytes.
pub(super) fn json(body: impl IntoResponse) -> Response {
    let media = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, media)], body).into_response()
}

/// [`schema::event::EventsPage`].
pub(super) fn page(page: &Page) -> Rendered {
    let mut out = Vec::with_capacity(64 + page.weight());
    out.extend_from_slice(b"{\"events\":");
    array(&mut out, &page.records, |out, record| {
        view(out, record, None)
    })?;
    out.extend_from_slice(b",\"next_cursor\":");
    serde_json::to_writer(&mut out, &page.next.map(|position| position.to_string()))?;
    out.push(b'}');
    Ok(out)
}

/// [`schema::event::EventView`] with its deliveries.
pub(super) fn history(history: &History) -> Rendered {
    let mut out = Vec::with_capacity(history.record.weight());
    view(&mut out, &history.record, Some(&history.deliveries))?;
    Ok(out)
}

/// [`schema::feed::FeedPage`].
pub(super) fn feed(slice: &FeedSlice) -> Rendered {
    let weights = slice.notices.iter().map(|notice| notice.record.weight());
    let mut out = Vec::with_capacity(128 + weights.sum::<usize>());
    out.extend_from_slice(b"{\"notices\":");
    array(&mut out, &slice.notices, entry)?;
    out.extend_from_slice(b",\"next\":");
    serde_json::to_writer(&mut out, &slice.next.to_string())?;
    out.extend_from_slice(b",\"head\":");
    serde_json::to_writer(&mut out, &slice.head)?;
    out.extend_from_slice(b",\"more\":");
    serde_json::to_writer(&mut out, &slice.more)?;
    out.push(b'}');
    Ok(out)
}

/// The fields before `raw` that an event has everywhere.
#[derive(Serialize)]
struct EventFields<'a> {
    event_id: &'a str,
    source: &'a str,
    kind: Kind,
    severity: Severity,
    service: &'a str,
    summary: &'a str,
    description: Option<&'a str>,
    started_at: &'a str,
    resolved_at: Option<&'a str>,
}

/// What a view adds before `raw`.
#[derive(Serialize)]
struct Decision<'a> {
    routed: bool,
    delivered_to: &'a [String],
}

/// What a view adds after `raw`.
#[derive(Serialize)]
struct Metadata<'a> {
    stored_at: Timestamp,
    revision: u32,
    correlation_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries: Option<&'a [DeliveryState]>,
}

/// A notice, without its event.
#[derive(Serialize)]
struct NoticeFields<'a> {
    position: u64,
    event_id: &'a str,
    revision: u32,
    action: Action,
    stored_at: Timestamp,
    correlation_id: &'a str,
    delivered_to: &'a [String],
}

impl<'a> EventFields<'a> {
    fn of(record: &'a Record) -> Self {
        Self {
            event_id: &record.event_id,
            source: &record.source,
            kind: record.kind,
            severity: record.severity,
            service: &record.service,
            summary: &record.summary,
            description: record.description.as_deref(),
            started_at: &record.started_at,
            resolved_at: record.resolved_at.as_deref(),
        }
    }
}

fn view(
    out: &mut Vec<u8>,
    record: &Record,
    deliveries: Option<&[DeliveryState]>,
) -> Result<(), serde_json::Error> {
    begin(out, &EventFields::of(record))?;
    go_on(
        out,
        &Decision {
            routed: record.routed,
            delivered_to: &record.delivered_to,
        },
    )?;
    bytes(out, "raw", &record.raw);
    go_on(
        out,
        &Metadata {
            stored_at: record.stored_at,
            revision: record.revision,
            correlation_id: &record.correlation_id,
            deliveries,
        },
    )?;
    out.push(b'}');
    Ok(())
}

fn entry(out: &mut Vec<u8>, notice: &Notice) -> Result<(), serde_json::Error> {
    let record = &notice.record;
    begin(
        out,
        &NoticeFields {
            position: notice.position,
            event_id: &record.event_id,
            revision: notice.revision,
            action: notice.action,
            stored_at: notice.stored_at,
            correlation_id: &notice.correlation_id,
            delivered_to: &record.delivered_to,
        },
    )?;
    out.extend_from_slice(b",\"event\":");
    begin(out, &EventFields::of(record))?;
    bytes(out, "raw", &record.raw);
    out.extend_from_slice(b"}}");
    Ok(())
}

fn array<T>(
    out: &mut Vec<u8>,
    items: &[T],
    item: impl Fn(&mut Vec<u8>, &T) -> Result<(), serde_json::Error>,
) -> Result<(), serde_json::Error> {
    out.push(b'[');
    for (index, element) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        item(out, element)?;
    }
    out.push(b']');
    Ok(())
}

/// An object that is still open at its end.
fn begin(out: &mut Vec<u8>, fields: &impl Serialize) -> Result<(), serde_json::Error> {
    serde_json::to_writer(&mut *out, fields)?;
    out.pop();
    Ok(())
}

/// Further fields of the object that is open: its opening brace becomes the comma.
fn go_on(out: &mut Vec<u8>, fields: &impl Serialize) -> Result<(), serde_json::Error> {
    let brace = out.len();
    begin(out, fields)?;
    out[brace] = b',';
    Ok(())
}

/// A field whose value is JSON already.
fn bytes(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(value.as_bytes());
}
