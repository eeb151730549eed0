//! A Statuspage `summary.json`, read leniently: unknown fields are ignored, a row that cannot be read is skipped and
//! counted, and a missing list says nothing about its rows.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A longer row is skipped: as an event it would not fit a request to event-store. Real incidents are below 80 KB.
const ROW_MAX: usize = 512 * 1024;

/// Why a body is not a status page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the body is not JSON")]
    NotJson,
    #[error("the JSON is not a status page")]
    NotAStatusPage,
}

/// What a page says.
#[derive(Debug)]
pub struct Page {
    /// As the vendor spells it; `None` where the page has no name.
    pub name: Option<String>,
    pub incidents: Vec<Incident>,
    /// Without group rows, which repeat their worst child.
    pub components: Vec<Component>,
    /// Rows and lists that could not be read.
    pub malformed: usize,
    /// Dates that are there and could not be read; what needs one takes the next best, or now.
    pub undated: usize,
}

#[derive(Debug)]
pub struct Incident {
    pub id: String,
    pub name: Option<String>,
    pub status: Option<String>,
    pub impact: Option<String>,
    pub created_at: Option<Timestamp>,
    pub updated_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub resolved_at: Option<Timestamp>,
    /// The text of the newest update, as the vendor wrote it.
    pub newest_update: Option<String>,
    /// The row's own bytes (R9).
    pub raw: Box<RawValue>,
}

#[derive(Debug)]
pub struct Component {
    pub id: String,
    pub name: Option<String>,
    pub status: String,
    pub updated_at: Option<Timestamp>,
    /// The row's own bytes (R9).
    pub raw: Box<RawValue>,
}

/// Reads a body.
pub fn parse(body: &[u8]) -> Result<Page, Fault> {
    #[derive(Deserialize)]
    struct Top<'a> {
        #[serde(borrow)]
        page: &'a RawValue,
        #[serde(borrow)]
        incidents: Option<&'a RawValue>,
        #[serde(borrow)]
        components: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(borrow)]
        name: Option<&'a RawValue>,
    }

    let body: &RawValue = serde_json::from_slice(body).map_err(|_| Fault::NotJson)?;
    let top: Top<'_> = object(body).ok_or(Fault::NotAStatusPage)?;
    let head: Head<'_> = object(top.page).ok_or(Fault::NotAStatusPage)?;
    let mut dates = Dates::default();
    let (incidents, bad_incidents) = rows(top.incidents, |row| incident(row, &mut dates).map(Some));
    let (components, bad_components) = rows(top.components, |row| component(row, &mut dates));
    Ok(Page {
        name: text(head.name),
        incidents,
        components,
        malformed: bad_incidents + bad_components,
        undated: dates.unreadable,
    })
}

/// The rows that can be read, and how many could not. `read` answers `None` for a row that is malformed and
/// `Some(None)` for one that is left out.
fn rows<T>(
    list: Option<&RawValue>,
    mut read: impl FnMut(&RawValue) -> Option<Option<T>>,
) -> (Vec<T>, usize) {
    let Some(list) = list else {
        return (Vec::new(), 0);
    };
    let Ok(list) = serde_json::from_str::<Vec<&RawValue>>(list.get()) else {
        return (Vec::new(), 1);
    };
    let mut read_rows = Vec::with_capacity(list.len());
    let mut malformed = 0;
    for row in list {
        match (row.get().len() <= ROW_MAX).then(|| read(row)).flatten() {
            Some(row) => read_rows.extend(row),
            None => malformed += 1,
        }
    }
    (read_rows, malformed)
}

fn incident(raw: &RawValue, dates: &mut Dates) -> Option<Incident> {
    #[derive(Deserialize)]
    struct Row<'a> {
        #[serde(borrow)]
        id: Option<&'a RawValue>,
        #[serde(borrow)]
        name: Option<&'a RawValue>,
        #[serde(borrow)]
        status: Option<&'a RawValue>,
        #[serde(borrow)]
        impact: Option<&'a RawValue>,
        #[serde(borrow)]
        created_at: Option<&'a RawValue>,
        #[serde(borrow)]
        updated_at: Option<&'a RawValue>,
        #[serde(borrow)]
        started_at: Option<&'a RawValue>,
        #[serde(borrow)]
        resolved_at: Option<&'a RawValue>,
        #[serde(borrow)]
        incident_updates: Option<&'a RawValue>,
    }

    let row: Row<'_> = object(raw)?;
    Some(Incident {
        id: text(row.id).filter(|id| !id.is_empty())?,
        name: text(row.name),
        status: text(row.status),
        impact: text(row.impact),
        created_at: dates.read(row.created_at),
        updated_at: dates.read(row.updated_at),
        started_at: dates.read(row.started_at),
        resolved_at: dates.read(row.resolved_at),
        newest_update: row
            .incident_updates
            .and_then(|updates| newest_update(updates, dates)),
        raw: raw.to_owned(),
    })
}

/// The text of the update that is shown as the newest; of equals the first, since pages list the newest first.
fn newest_update(updates: &RawValue, dates: &mut Dates) -> Option<String> {
    #[derive(Deserialize)]
    struct Row<'a> {
        #[serde(borrow)]
        body: Option<&'a RawValue>,
        #[serde(borrow)]
        display_at: Option<&'a RawValue>,
        #[serde(borrow)]
        created_at: Option<&'a RawValue>,
    }

    let rows: Vec<&RawValue> = serde_json::from_str(updates.get()).ok()?;
    rows.into_iter()
        .filter_map(|row| {
            let row: Row<'_> = object(row)?;
            let shown_at = dates
                .read(row.display_at)
                .or_else(|| dates.read(row.created_at));
            Some((shown_at, text(row.body)?))
        })
        .reduce(|newest, other| if other.0 > newest.0 { other } else { newest })
        .map(|(_, body)| body)
}

fn component(raw: &RawValue, dates: &mut Dates) -> Option<Option<Component>> {
    #[derive(Deserialize)]
    struct Row<'a> {
        #[serde(borrow)]
        id: Option<&'a RawValue>,
        #[serde(borrow)]
        name: Option<&'a RawValue>,
        #[serde(borrow)]
        status: Option<&'a RawValue>,
        #[serde(borrow)]
        updated_at: Option<&'a RawValue>,
        #[serde(borrow)]
        group: Option<&'a RawValue>,
    }

    let row: Row<'_> = object(raw)?;
    if row.group.is_some_and(|group| group.get() == "true") {
        return Some(None);
    }
    Some(Some(Component {
        id: text(row.id).filter(|id| !id.is_empty())?,
        name: text(row.name),
        status: text(row.status)?,
        updated_at: dates.read(row.updated_at),
        raw: raw.to_owned(),
    }))
}

/// serde would also read an array as a struct, field by field.
fn object<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    raw.get()
        .starts_with('{')
        .then(|| serde_json::from_str(raw.get()).ok())
        .flatten()
}

fn text(raw: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(raw?.get()).ok()
}

/// Reads dates, and counts those that cannot be read.
#[derive(Default)]
struct Dates {
    unreadable: usize,
}

impl Dates {
    /// `None` where there is no date: absent, null, or not RFC 3339.
    fn read(&mut self, raw: Option<&RawValue>) -> Option<Timestamp> {
        let raw = raw.filter(|raw| raw.get() != "null")?;
        let date = text(Some(raw)).and_then(|text| text.parse().ok());
        self.unreadable += usize::from(date.is_none());
        date
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_status_page_is_told_from_what_is_not_json() {
        for (body, fault) in [
            ("", Fault::NotJson),
            ("<html></html>", Fault::NotJson),
            ("{\"page\":{}", Fault::NotJson),
            ("{\"page\":{}} {}", Fault::NotJson),
            ("\u{feff}{}", Fault::NotJson),
            ("null", Fault::NotAStatusPage),
            ("[]", Fault::NotAStatusPage),
            ("[{},[],[]]", Fault::NotAStatusPage),
            ("{}", Fault::NotAStatusPage),
            ("{\"page\":null}", Fault::NotAStatusPage),
            ("{\"page\":[\"Braze\"]}", Fault::NotAStatusPage),
        ] {
            assert_eq!(parse(body.as_bytes()).unwrap_err(), fault, "{body}");
        }
        assert_eq!(
            parse(b"{\"page\":{},\"x\":\"\xff\"}").unwrap_err(),
            Fault::NotJson
        );
    }

    #[test]
    fn a_missing_list_is_empty_and_one_of_another_type_is_counted() {
        for (lists, malformed) in [
            ("", 0),
            (",\"incidents\":null,\"components\":null", 0),
            (",\"incidents\":{},\"components\":7", 2),
        ] {
            let page = parse(format!("{{\"page\":{{}}{lists}}}").as_bytes()).unwrap();
            assert_eq!(page.malformed, malformed, "{lists}");
            assert!(page.incidents.is_empty() && page.components.is_empty());
        }
    }

    #[test]
    fn a_malformed_row_is_skipped_and_the_others_are_read() {
        let huge = format!(
            r#"{{"id":"h","status":"major_outage","x":"{}"}}"#,
            "x".repeat(ROW_MAX)
        );
        let body = format!(
            r#"{{"page":{{}},
              "incidents":[null, 7, [], {{}}, {{"id":""}}, {{"id":5}}, {{"id":"i"}}],
              "components":[{{"id":"c"}}, {{"status":"x"}}, {huge},
                {{"id":"g","status":"x","group":true}}, {{"id":"ok","status":"x","group":false}}]}}"#
        );

        let page = parse(body.as_bytes()).unwrap();

        assert_eq!(page.malformed, 6 + 3);
        assert_eq!(page.incidents.len(), 1);
        assert_eq!(page.components.len(), 1);
    }

    #[test]
    fn a_field_of_another_type_counts_as_absent() {
        let page = parse(
            br#"{"page":{"name":1},"incidents":[{"id":"i","name":[],"impact":3,"created_at":1705315200,"started_at":"soon"}]}"#,
        )
        .unwrap();

        let incident = &page.incidents[0];
        assert_eq!(page.name, None);
        assert_eq!((&incident.name, &incident.impact), (&None, &None));
        assert_eq!((incident.created_at, incident.started_at), (None, None));
    }

    #[test]
    fn a_date_that_is_there_and_is_none_is_counted() {
        let page = parse(
            br#"{"page":{},
              "incidents":[{"id":"i","created_at":1705315200,"started_at":"15.01.2024","updated_at":null,
                "incident_updates":[{"body":"b","display_at":"","created_at":"2024-01-15T10:00:00Z"}]}],
              "components":[{"id":"c","status":"x","updated_at":"Mon, 15 Jan 2024 10:00:00 GMT"},
                {"id":"d","status":"x","updated_at":"2024-01-15T10:00:00Z"}]}"#,
        )
        .unwrap();

        assert_eq!(page.undated, 4);
    }

    #[test]
    fn the_newest_update_is_the_one_shown_last() {
        for (updates, newest) in [
            ("[]", None),
            ("{}", None),
            (r#"[{"body":"b"},{"body":"a"}]"#, Some("b")),
            (
                r#"[{"body":"a","created_at":"2024-01-15T10:00:00Z"},{"body":"b","created_at":"2024-01-15T11:00:00Z"}]"#,
                Some("b"),
            ),
            (
                r#"[{"body":"a","created_at":"2024-01-15T10:00:00Z","display_at":"2024-01-15T13:00:00+01:00"},{"body":"b","created_at":"2024-01-15T11:00:00Z"}]"#,
                Some("a"),
            ),
            (r#"[7,{"body":null},{"body":"a"}]"#, Some("a")),
        ] {
            let raw = RawValue::from_string(updates.to_owned()).unwrap();
            let found = newest_update(&raw, &mut Dates::default());
            assert_eq!(found.as_deref(), newest, "{updates}");
        }
    }
}
