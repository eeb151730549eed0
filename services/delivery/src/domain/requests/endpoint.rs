//! What an endpoint is asked to be, or to become.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;

use jiff::{SignedDuration, Timestamp};
use schema::webhooks::{
    DisabledReason, EndpointChange, NewEndpoint, OnExhausted, Ordering, RetryPolicy, RotateSecret,
};
use signature::standard::Key;

use super::Refusal;
use crate::domain::egress::{self, Nets};
use crate::domain::endpoint::{
    Confidential, Disabled, Endpoint, MAX_IN_FLIGHT, PREVIOUS_MAX, Pattern, Previous, Settings,
    TIMEOUT_MS,
};
use crate::domain::headers;
use crate::domain::schedule::Policy;

const DESCRIPTION_MAX: usize = 500;
const PATTERNS_MAX: usize = 100;
const TIMEOUTS_MS: RangeInclusive<u64> = 100..=30_000;
const IN_FLIGHT: RangeInclusive<u32> = 1..=256;
const RATES_PER_S: RangeInclusive<u32> = 1..=10_000;
/// How long a secret that was replaced signs too, in seconds, unless said.
const OVERLAP_S: u64 = 24 * 3_600;
const OVERLAP_MAX_S: u64 = 7 * 24 * 3_600;

/// What the operator decides for all endpoints.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// The networks that are open beside the internet.
    pub nets: Nets,
    /// Of an endpoint that asks for none.
    pub policy: Policy,
    /// Of pages.
    pub pages: Policy,
}

/// An endpoint as it can be made.
#[derive(Debug)]
pub struct CheckedEndpoint {
    pub settings: Settings,
    pub confidential: Confidential,
    pub disabled: bool,
}

/// Checks a new endpoint. `minted` becomes its secret where none is given.
pub fn check_endpoint(
    told: NewEndpoint,
    defaults: &Defaults,
    minted: [u8; 32],
) -> Result<CheckedEndpoint, Refusal> {
    egress::parse(&told.url, &defaults.nets)?;
    Ok(CheckedEndpoint {
        settings: Settings {
            url: told.url,
            event_types: told.event_types.as_deref().map(patterns).transpose()?,
            description: told.description.map(description).transpose()?,
            retry: told.retry.map(|asked| retry(asked, defaults)).transpose()?,
            timeout_ms: timeout_ms(told.timeout_ms)?,
            max_in_flight: max_in_flight(told.max_in_flight)?,
            rate_limit_per_s: told.rate_limit_per_s.map(rate).transpose()?,
            ordering: told.ordering.unwrap_or(Ordering::None),
            on_exhausted: told.on_exhausted.unwrap_or(OnExhausted::Block),
        },
        confidential: Confidential {
            secret: secret(told.secret.as_deref(), minted)?,
            previous: Vec::new(),
            headers: sendable(told.headers.unwrap_or_default())?,
        },
        disabled: told.disabled.unwrap_or(false),
    })
}

/// An endpoint with a change made to it: all of it, or none.
pub fn changed(
    endpoint: &Endpoint,
    told: &EndpointChange,
    defaults: &Defaults,
    now: Timestamp,
) -> Result<Endpoint, Refusal> {
    if endpoint.endpoint_id.is_built_in() {
        refuse_built_in(told)?;
    }
    let mut changed = Endpoint {
        updated_at: now,
        ..endpoint.clone()
    };
    let settings = &mut changed.settings;
    if let Some(ordering) = told.ordering
        && ordering.unwrap_or(Ordering::None) != settings.ordering
    {
        return Err(Refusal::Setting(
            "ordering is chosen at registration: register another endpoint".to_owned(),
        ));
    }
    if let Some(url) = &told.url {
        let url = url.as_ref().ok_or_else(|| no_default("url"))?;
        egress::parse(url, &defaults.nets)?;
        settings.url.clone_from(url);
    }
    if let Some(types) = &told.event_types {
        settings.event_types = types.as_deref().map(patterns).transpose()?;
    }
    if let Some(text) = &told.description {
        settings.description = text.clone().map(description).transpose()?;
    }
    if let Some(asked) = &told.retry {
        let asked = asked.clone().map(|asked| retry(asked, defaults));
        settings.retry = asked.transpose()?;
    }
    if let Some(asked) = told.timeout_ms {
        settings.timeout_ms = timeout_ms(asked)?;
    }
    if let Some(asked) = told.max_in_flight {
        settings.max_in_flight = max_in_flight(asked)?;
    }
    if let Some(asked) = told.rate_limit_per_s {
        settings.rate_limit_per_s = asked.map(rate).transpose()?;
    }
    if let Some(asked) = told.on_exhausted {
        settings.on_exhausted = asked.unwrap_or(OnExhausted::Block);
    }
    if let Some(headers) = &told.headers {
        changed.confidential.headers = sendable(headers.clone().unwrap_or_default())?;
    }
    if let Some(disabled) = told.disabled {
        let disabled = disabled.ok_or_else(|| no_default("disabled"))?;
        changed = switched(&changed, disabled, now);
    }
    Ok(changed)
}

/// An endpoint that is disabled by hand, or enabled. One that is disabled stays so for the reason that it has.
pub fn switched(endpoint: &Endpoint, disabled: bool, now: Timestamp) -> Endpoint {
    let by_hand = Disabled {
        reason: DisabledReason::Manual,
        at: now,
    };
    Endpoint {
        disabled: disabled.then(|| endpoint.disabled.unwrap_or(by_hand)),
        updated_at: now,
        ..endpoint.clone()
    }
}

/// An endpoint with another secret; each one before signs too until its own end. `minted` is the new one where none is
/// given. Without an overlap, none of those before signs any more.
pub fn rotated(
    endpoint: &Endpoint,
    told: &RotateSecret,
    minted: [u8; 32],
    now: Timestamp,
) -> Result<Endpoint, Refusal> {
    let overlap_s = told.overlap_s.unwrap_or(OVERLAP_S);
    let overlap_s = within("overlap_s", overlap_s, 0..=OVERLAP_MAX_S)?;
    let mut rotated = Endpoint {
        updated_at: now,
        ..endpoint.clone()
    };
    let confidential = &mut rotated.confidential;
    let secret = secret(told.secret.as_deref(), minted)?;
    if overlap_s == 0 {
        confidential.secret = secret;
        confidential.previous.clear();
        return Ok(rotated);
    }
    // Requested a second time, it must not put the new one in the place of the one before.
    if secret == confidential.secret {
        return Ok(rotated);
    }
    let overlap = SignedDuration::from_secs(i64::try_from(overlap_s).unwrap_or(i64::MAX));
    let before = Previous {
        secret: std::mem::replace(&mut confidential.secret, secret),
        until: now.saturating_add(overlap).unwrap_or(Timestamp::MAX),
    };
    let present = &confidential.secret;
    confidential
        .previous
        .retain(|older| now < older.until && older.secret != *present);
    confidential.previous.insert(0, before);
    if confidential.previous.len() > PREVIOUS_MAX {
        return Err(Refusal::TooManySecrets);
    }
    Ok(rotated)
}

/// When attempts are made for an endpoint.
///
/// What it asks for was checked when it was set; a later release may be stricter, and then the default stands in.
pub fn policy_of(endpoint: &Endpoint, defaults: &Defaults) -> Policy {
    if endpoint.endpoint_id.is_built_in() {
        return defaults.pages.clone();
    }
    let settings = &endpoint.settings;
    let asked = settings.retry.as_ref();
    let asked = asked.and_then(|asked| Policy::asked(asked, &defaults.policy).ok());
    let mut policy = asked.unwrap_or_else(|| defaults.policy.clone());
    policy.ages_from_first_attempt = settings.ordering == Ordering::Strict;
    policy
}

fn refuse_built_in(told: &EndpointChange) -> Result<(), Refusal> {
    for (name, told) in [
        ("url", told.url.is_some()),
        ("timeout_ms", told.timeout_ms.is_some()),
        ("retry", told.retry.is_some()),
        ("event_types", told.event_types.is_some()),
    ] {
        if told {
            return Err(Refusal::BuiltIn(name));
        }
    }
    Ok(())
}

/// What null would set is for the caller to say.
fn no_default(name: &str) -> Refusal {
    Refusal::Setting(format!("{name} has no default for null to take again"))
}

fn patterns(told: &[String]) -> Result<Vec<Pattern>, Refusal> {
    if told.is_empty() {
        return Err(Refusal::Payload(
            "event_types names at least one; leave it out for all".to_owned(),
        ));
    }
    if told.len() > PATTERNS_MAX {
        return Err(Refusal::Setting(format!(
            "event_types names at most {PATTERNS_MAX}"
        )));
    }
    let parsed = told.iter().map(|text| Pattern::parse(text));
    parsed.collect::<Option<_>>().ok_or_else(|| {
        Refusal::Setting(
            "event_types are such as order.created, or order.* for all below it".to_owned(),
        )
    })
}

fn description(text: String) -> Result<String, Refusal> {
    if text.chars().count() > DESCRIPTION_MAX {
        return Err(Refusal::Setting(format!(
            "description has at most {DESCRIPTION_MAX} characters"
        )));
    }
    Ok(text)
}

fn retry(asked: RetryPolicy, defaults: &Defaults) -> Result<RetryPolicy, Refusal> {
    Policy::asked(&asked, &defaults.policy)
        .map(|_| asked)
        .map_err(|why| Refusal::Setting(why.to_owned()))
}

fn timeout_ms(asked: Option<u64>) -> Result<u64, Refusal> {
    within("timeout_ms", asked.unwrap_or(TIMEOUT_MS), TIMEOUTS_MS)
}

fn max_in_flight(asked: Option<u32>) -> Result<u32, Refusal> {
    within("max_in_flight", asked.unwrap_or(MAX_IN_FLIGHT), IN_FLIGHT)
}

fn rate(asked: u32) -> Result<u32, Refusal> {
    within("rate_limit_per_s", asked, RATES_PER_S)
}

fn within<T: PartialOrd + Display>(
    name: &str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<T, Refusal> {
    if range.contains(&value) {
        return Ok(value);
    }
    let (least, most) = range.into_inner();
    Err(Refusal::Setting(format!("{name} is {least} to {most}")))
}

fn secret(told: Option<&str>, minted: [u8; 32]) -> Result<String, Refusal> {
    let key = match told {
        Some(told) => Key::parse(told)?,
        None => Key::from_bytes(minted.to_vec())?,
    };
    Ok(key.to_secret())
}

fn sendable(told: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Refusal> {
    headers::parse(&told)?;
    Ok(told)
}

#[cfg(test)]
mod tests;
