//! Which pages are polled, when, and where the events go.

use std::collections::BTreeSet;

use runtime::config::{self, List, complain_of_listen_addr};
use runtime::internal_key::InternalKey;
use schema::Source;
use serde::Deserialize;
use url::Url;

use crate::schedule::Schedule;

/// Pages are polled at once and each may be 4 MiB, so their number bounds the memory.
const PAGES_MAX: usize = 32;

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Config {
    /// `STATUS_POLLER_HOST`: the address to listen on, default 127.0.0.1.
    pub status_poller_host: String,
    /// `STATUS_POLLER_PORT`, default 3002; 0 takes a free one.
    pub status_poller_port: u16,
    /// `SPREEDLY_STATUS_SUMMARY_URL`: Spreedly's `summary.json`. Absent: a pull reads the embedded fixture, and the
    /// schedule leaves it out.
    pub spreedly_status_summary_url: Option<String>,
    /// `BRAZE_STATUS_SUMMARY_URL`: Braze's `summary.json`, likewise.
    pub braze_status_summary_url: Option<String>,
    /// `STATUS_PAGES`: further pages as `vendor=url,…`; a vendor is 1 to 48 of `a-z 0-9 _`. Default none.
    pub status_pages: List,
    /// `STATUS_POLL_CRON`: when configured pages are polled, in UTC; six fields, seconds first. Default `0 * * * * *`.
    pub status_poll_cron: String,
    /// `EVENT_STORE_URL`: default <http://127.0.0.1:3003>.
    pub event_store_url: List,
    /// `SIGNALPOST_INTERNAL_KEY`: what our services show each other, comma-separated; the first is sent. Required.
    pub signalpost_internal_key: InternalKey,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            status_poller_host: "127.0.0.1".to_owned(),
            status_poller_port: 3002,
            spreedly_status_summary_url: None,
            braze_status_summary_url: None,
            status_pages: List::default(),
            status_poll_cron: "0 * * * * *".to_owned(),
            event_store_url: List::of(&["http://127.0.0.1:3003"]),
            signalpost_internal_key: InternalKey::default(),
        }
    }
}

impl config::Config for Config {
    fn complaints(&self) -> Vec<String> {
        let mut complaints = match self.pages() {
            Ok(_) => Vec::new(),
            Err(complaints) => complaints,
        };
        if let Err(complaint) = self.schedule() {
            complaints.push(complaint);
        }
        if self.event_store_url.0.is_empty() {
            complaints.push("EVENT_STORE_URL: at least one address is needed".to_owned());
        }
        for address in &self.event_store_url.0 {
            if let Err(complaint) = http_url(address) {
                complaints.push(format!("EVENT_STORE_URL: {complaint}"));
            }
        }
        complain_of_listen_addr(
            &mut complaints,
            "STATUS_POLLER",
            &self.status_poller_host,
            self.status_poller_port,
        );
        self.signalpost_internal_key
            .complain_if_missing(&mut complaints);
        complaints
    }

    fn listen_addr(&self) -> String {
        config::listen_addr(&self.status_poller_host, self.status_poller_port)
    }
}

/// A status page that is polled.
#[derive(Clone, Debug)]
pub(crate) struct StatusPage {
    /// As it is told in the answer of a pull.
    pub(crate) vendor: String,
    pub(crate) source: Source,
    pub(crate) origin: Origin,
}

/// Where a page's body comes from.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    Url(Url),
    /// For demos, on an explicit pull only: nobody is paged by a fixture at night.
    Fixture(&'static str),
}

impl StatusPage {
    pub(crate) fn is_configured(&self) -> bool {
        matches!(self.origin, Origin::Url(_))
    }
}

impl Config {
    pub(crate) fn schedule(&self) -> Result<Schedule, String> {
        Schedule::parse(&self.status_poll_cron)
            .map_err(|complaint| format!("STATUS_POLL_CRON: {complaint}"))
    }

    /// The pages, or everything that is wrong with their settings.
    pub(crate) fn pages(&self) -> Result<Vec<StatusPage>, Vec<String>> {
        let mut pages = Vec::new();
        let mut complaints = Vec::new();
        let mut take = |page: Result<StatusPage, String>| match page {
            Ok(page) => pages.push(page),
            Err(complaint) => complaints.push(complaint),
        };
        take(page_or_fixture(
            "SPREEDLY_STATUS_SUMMARY_URL",
            "spreedly",
            self.spreedly_status_summary_url.as_deref(),
            include_str!("../../../fixtures/statuspage/spreedly_summary.json"),
        ));
        take(page_or_fixture(
            "BRAZE_STATUS_SUMMARY_URL",
            "braze",
            self.braze_status_summary_url.as_deref(),
            include_str!("../../../fixtures/statuspage/braze_summary.json"),
        ));
        for entry in &self.status_pages.0 {
            take(further_page(entry));
        }

        let mut vendors = BTreeSet::new();
        for page in &pages {
            if !vendors.insert(&page.vendor) {
                complaints.push(format!("STATUS_PAGES: `{}` is there twice", page.vendor));
            }
        }
        if pages.len() > PAGES_MAX {
            complaints.push(format!(
                "STATUS_PAGES: {} pages are more than the {PAGES_MAX} that are polled",
                pages.len()
            ));
        }
        if complaints.is_empty() {
            Ok(pages)
        } else {
            Err(complaints)
        }
    }
}

fn page_or_fixture(
    variable: &str,
    vendor: &str,
    url: Option<&str>,
    fixture: &'static str,
) -> Result<StatusPage, String> {
    let origin = match url {
        Some(url) => {
            Origin::Url(http_url(url).map_err(|complaint| format!("{variable}: {complaint}"))?)
        }
        None => Origin::Fixture(fixture),
    };
    status_page(vendor, origin)
}

/// `vendor=url`
fn further_page(entry: &str) -> Result<StatusPage, String> {
    let (vendor, url) = entry
        .split_once('=')
        .ok_or_else(|| format!("STATUS_PAGES: `{entry}` is not `vendor=url`"))?;
    let url = http_url(url.trim()).map_err(|complaint| format!("STATUS_PAGES: {complaint}"))?;
    status_page(vendor.trim(), Origin::Url(url))
}

fn status_page(vendor: &str, origin: Origin) -> Result<StatusPage, String> {
    let source = Source::status_page(vendor)
        .ok_or_else(|| format!("STATUS_PAGES: `{vendor}` is not 1 to 48 of a-z 0-9 _"))?;
    Ok(StatusPage {
        vendor: vendor.to_owned(),
        source,
        origin,
    })
}

/// An operator's URL: http, private and dotless hosts are the operator's choice.
fn http_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|fault| format!("`{text}` is not a URL: {fault}"))?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() {
        Ok(url)
    } else {
        Err(format!("`{text}` is not an http or https URL"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, config::Faults> {
        let key = ("SIGNALPOST_INTERNAL_KEY", "key-of-the-tests");
        config::from_variables(
            [key]
                .iter()
                .chain(variables)
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    #[test]
    fn without_urls_the_two_vendors_have_their_fixtures() {
        let pages = read(&[]).unwrap().pages().unwrap();

        let vendors: Vec<_> = pages.iter().map(|page| page.vendor.as_str()).collect();
        assert_eq!(vendors, ["spreedly", "braze"]);
        assert!(!pages.iter().any(StatusPage::is_configured));
    }

    #[test]
    fn pages_are_added_by_configuration_wherever_the_operator_runs_them() {
        let config = read(&[
            ("BRAZE_STATUS_SUMMARY_URL", "http://localhost:9/summary.json"),
            (
                "STATUS_PAGES",
                "github=https://www.githubstatus.com/api/v2/summary.json, in_house=http://10.0.0.1/s",
            ),
        ])
        .unwrap();

        let configured: Vec<_> = config
            .pages()
            .unwrap()
            .into_iter()
            .filter(StatusPage::is_configured)
            .map(|page| page.source.to_string())
            .collect();
        assert_eq!(
            configured,
            ["braze_status", "github_status", "in_house_status"]
        );
    }

    #[test]
    fn every_fault_of_the_pages_is_told() {
        for (variable, value) in [
            ("SPREEDLY_STATUS_SUMMARY_URL", "status.spreedly.com"),
            ("BRAZE_STATUS_SUMMARY_URL", "ftp://braze/summary.json"),
            ("STATUS_PAGES", "github"),
            ("STATUS_PAGES", "GitHub=https://a.example"),
            ("STATUS_PAGES", "=https://a.example"),
            ("STATUS_PAGES", "a=nowhere"),
            ("STATUS_PAGES", "a=https://a.example,a=https://b.example"),
            ("STATUS_PAGES", "spreedly=https://a.example"),
            ("STATUS_POLL_CRON", "* * * * *"),
            ("STATUS_POLL_CRON", "every minute or so, if you please"),
            ("EVENT_STORE_URL", "event-store:3003"),
            ("EVENT_STORE_URL", ","),
        ] {
            let faults = read(&[(variable, value)]).unwrap_err();
            assert!(
                faults.to_string().contains(variable),
                "{variable}={value}: {faults}"
            );
        }
        let faults = read(&[
            ("STATUS_PAGES", "a=x,B=https://b.example"),
            ("STATUS_POLL_CRON", "x"),
        ]);
        assert_eq!(faults.unwrap_err().0.len(), 3);
    }
}
