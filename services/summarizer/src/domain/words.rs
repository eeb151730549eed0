//! The vocabulary. A pattern is one or more lower-case words that follow each other in the text.

/// A thing that can fail: the patterns that name it, and how the summary calls it.
pub(super) struct Subject {
    pub(super) patterns: &'static [&'static str],
    pub(super) label: &'static str,
}

/// Something that goes wrong.
pub(super) struct Trouble {
    /// Patterns that tell of one, or of a state that is not counted.
    pub(super) one: &'static [&'static str],
    /// Patterns that tell of several; they raise the severity a step.
    pub(super) many: &'static [&'static str],
    pub(super) label_one: &'static str,
    pub(super) label_many: &'static str,
    /// 0 info, 1 warning, 2 critical, before anything raises or lowers it.
    pub(super) badness: i8,
}

/// Where it happens: the patterns, and how the summary calls the place.
pub(super) struct Region {
    pub(super) patterns: &'static [&'static str],
    pub(super) label: &'static str,
}

macro_rules! subjects {
    ($($label:literal: $($pattern:literal),+;)+) => {
        pub(super) const SUBJECTS: &[Subject] = &[$(Subject { patterns: &[$($pattern),+], label: $label }),+];
    };
}

macro_rules! regions {
    ($($label:literal: $($pattern:literal),+;)+) => {
        pub(super) const REGIONS: &[Region] = &[$(Region { patterns: &[$($pattern),+], label: $label }),+];
    };
}

macro_rules! troubles {
    ($($badness:literal $label_one:literal / $label_many:literal: [$($one:literal),*] [$($many:literal),*];)+) => {
        pub(super) const TROUBLES: &[Trouble] = &[$(Trouble {
            one: &[$($one),*],
            many: &[$($many),*],
            label_one: $label_one,
            label_many: $label_many,
            badness: $badness,
        }),+];
    };
}

subjects! {
    "payment": "payment", "payments", "transaction", "transactions", "charge", "charges", "card", "cards";
    "payout": "payout", "payouts";
    "refund": "refund", "refunds";
    "checkout": "checkout", "checkouts";
    "subscription": "subscription", "subscriptions", "billing", "invoice", "invoices";
    "login": "login", "logins", "sign in", "authentication", "auth", "sso";
    "webhook": "webhook", "webhooks";
    "API": "api", "apis";
    "database": "database", "databases", "db", "postgres", "mysql";
    "dashboard": "dashboard", "dashboards";
    "messaging": "messaging", "messages", "notifications", "sms";
    "email": "email", "emails", "mail";
    "DNS": "dns";
    "network": "network", "connectivity";
    "storage": "storage", "disk", "disks";
    "queue": "queue", "queues";
    "search": "search";
    "website": "website", "site", "web";
}

troubles! {
    2 "outage" / "outages": ["outage", "down", "unavailable", "unreachable", "offline", "not responding", "crashed"] ["outages"];
    2 "data loss" / "data loss": ["data loss", "lost data", "corruption"] [];
    2 "security breach" / "security breaches": ["breach", "security incident", "compromised"] ["breaches"];
    1 "failure" / "failures": ["failure", "failed", "fails"] ["failures", "failing"];
    1 "decline" / "declines": ["decline", "declined"] ["declines"];
    1 "degradation" / "degradation": ["degraded", "degradation", "degraded performance"] [];
    1 "latency" / "latency": ["latency", "slow", "slowness", "slowdown", "delays", "delayed", "delay"] [];
    1 "disruption" / "disruptions": ["disruption", "disrupted", "interruption"] ["disruptions", "interruptions"];
    0 "error" / "errors": ["error"] ["errors"];
    0 "timeout" / "timeouts": ["timeout", "timed out"] ["timeouts"];
    0 "maintenance" / "maintenance": ["maintenance"] [];
}

regions! {
    "APAC": "apac", "asia pacific", "asia-pacific";
    "EMEA": "emea";
    "LATAM": "latam", "latin america";
    "North America": "north america", "noram";
    "South America": "south america";
    "Europe": "europe", "eu", "european";
    "Asia": "asia";
    "Africa": "africa";
    "Australia": "australia";
    "the US": "us", "usa", "united states";
    "the UK": "uk", "united kingdom";
    "Canada": "canada";
    "Brazil": "brazil";
    "Germany": "germany";
    "France": "france";
    "India": "india";
    "Japan": "japan";
    "Singapore": "singapore";
    "all regions": "all regions", "worldwide", "globally", "every region";
}

/// Each present raises the severity a step, once.
pub(super) const RAISES: &[&str] = &[
    "multiple",
    "many",
    "several",
    "all",
    "widespread",
    "major",
    "severe",
    "complete",
    "total",
    "worldwide",
    "globally",
    "every",
    "most",
];

/// One present lowers the severity a step, once.
pub(super) const LOWERS: &[&str] = &[
    "minor",
    "intermittent",
    "isolated",
    "brief",
    "briefly",
    "scheduled",
    "planned",
    "slight",
    "slightly",
    "single",
];

/// The text itself says that it is critical.
pub(super) const CRITICAL: &[&str] = &["critical", "sev1", "sev 1", "p1", "emergency"];

/// It is over, so nobody need hurry.
pub(super) const OVER: &[&str] = &[
    "resolved",
    "recovered",
    "restored",
    "fixed",
    "back to normal",
    "operational",
];

/// A word of trouble, or of its end, right after one of these is not said to be there.
pub(super) const NEGATIONS: &[&str] = &["no", "not", "without", "non", "isn't", "zero"];
