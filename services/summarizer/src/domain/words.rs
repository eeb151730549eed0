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
    2 "outage" / "outages": ["outage", "down", "unavailable", "unreachable", "offline", "not responding", "no response", "crashed", "unhealthy"] ["outages"];
    2 "data loss" / "data loss": ["data loss", "lost data", "corruption"] [];
    2 "security breach" / "security breaches": ["breach", "security incident", "compromised"] ["breaches"];
    1 "failure" / "failures": ["failure", "failed", "fails", "cannot", "can't", "unable to", "unresolved"] ["failures", "failing"];
    1 "decline" / "declines": ["decline", "declined"] ["declines"];
    1 "degradation" / "degradation": ["degraded", "degradation", "degraded performance"] [];
    1 "latency" / "latency": ["latency", "slow", "slowness", "slowdown", "delays", "delayed", "delay"] [];
    1 "disruption" / "disruptions": ["disruption", "disrupted", "interruption"] ["disruptions", "interruptions"];
    0 "error" / "errors": ["error"] ["errors"];
    0 "timeout" / "timeouts": ["timeout", "timed out"] ["timeouts"];
    0 "maintenance" / "maintenance": ["maintenance"] [];
}

/// Of something that is said not to be well.
pub(super) const NOT_WELL: Trouble = Trouble {
    one: &[],
    many: &[],
    label_one: "outage",
    label_many: "outages",
    badness: 2,
};

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

/// A thing that is well again: its trouble is over. Denied, this is trouble.
pub(super) const ENDS: &[&str] = &[
    "resolved",
    "recovered",
    "restored",
    "fixed",
    "mitigated",
    "remediated",
    "cleared",
    "all clear",
    "all good",
    "false alarm",
    "operational",
    "healthy",
    "nominal",
    "back to normal",
    "returned to normal",
    "back online",
    "back up",
    "up again",
    "working again",
    "working normally",
    "working as expected",
    "available again",
    "normal again",
    "stable again",
    "operating normally",
    "running normally",
    "processing normally",
    "responding again",
    "responding normally",
];

/// The end of what the clause tells of.
pub(super) const ENDS_OF_TROUBLE: &[&str] = &[
    "ended",
    "is over",
    "are over",
    "stopped",
    "subsided",
    "ceased",
    "disappeared",
    "gone",
    "closed",
];

/// What can end, without a word of trouble.
pub(super) const ISSUES: &[&str] = &[
    "issue",
    "issues",
    "incident",
    "incidents",
    "problem",
    "problems",
    "alert",
    "alarm",
];

/// Said, these end nothing; denied, they are trouble.
pub(super) const SUCCESSES: &[&str] = &[
    "working",
    "available",
    "accessible",
    "reachable",
    "responding",
    "recover",
    "recovering",
    "resolve",
    "succeed",
    "succeeding",
    "succeeded",
    "successful",
    "going through",
    "processing",
    "processed",
    "completing",
];

/// With one of these before it, an end is hoped for or partial.
pub(super) const UNSURE: &[&str] = &[
    "be",
    "being",
    "will",
    "until",
    "once",
    "when",
    "before",
    "expect",
    "expected",
    "should",
    "may",
    "might",
    "could",
    "would",
    "if",
    "partially",
    "partly",
    "some",
    "most",
    "mostly",
    "almost",
    "nearly",
    "other",
    "others",
    "else",
    "rest",
    "attempting",
    "trying",
];

/// An adjective of what follows it, where that is one of [`QUALIFIED`].
pub(super) const OPERATIONAL: &str = "operational";
pub(super) const QUALIFIED: &[&str] = &[
    "issue", "issues", "impact", "problem", "problems", "risk", "team", "incident", "status",
];

/// It goes on, whatever else is said of it.
pub(super) const RELAPSES: &[&str] = &[
    "still",
    "recurred",
    "recurring",
    "reopened",
    "persist",
    "persists",
    "persisting",
    "continue",
    "continues",
    "continuing",
    "ongoing",
    "failing again",
    "fails again",
    "failed again",
    "down again",
];

/// Of what was, not of what is.
pub(super) const PAST: &[&str] = &["was", "were", "had", "earlier", "previously"];

/// What stands behind one of these in its clause is not there.
pub(super) const NEGATIONS: &[&str] = &[
    "no", "not", "without", "never", "none", "neither", "nothing", "nobody", "cannot", "can't",
    "couldn't", "won't", "isn't", "aren't", "wasn't", "weren't", "don't", "doesn't", "didn't",
    "hasn't", "haven't", "hadn't",
];

/// Likewise.
pub(super) const HINDRANCES: &[&str] = &[
    "free of",
    "free from",
    "failed to",
    "fails to",
    "failing to",
    "unable to",
];

/// Likewise, of the word that follows.
pub(super) const STOPS: &[&str] = &["stopped", "stops", "ceased", "non"];

/// Likewise, where it counts and does not name.
pub(super) const ZERO: &[&str] = &["0", "zero"];

/// Right behind a negation, these take its force away: "not all", "no doubt".
pub(super) const QUANTIFIERS: &[&str] = &[
    "all",
    "every",
    "everything",
    "only",
    "just",
    "always",
    "doubt",
    "reason",
    "warning",
    "notice",
    "matter",
    "later",
    "less",
    "fewer",
    "sure",
    "clear",
];

/// Between a negation and a trouble, one of these is what is denied, and the trouble stays.
pub(super) const REMEDIES: &[&str] = &[
    "fix",
    "fixes",
    "fixed",
    "fixing",
    "resolve",
    "resolved",
    "resolving",
    "resolution",
    "recover",
    "recovered",
    "recovering",
    "recovery",
    "restore",
    "restored",
    "restoring",
    "stop",
    "stopped",
    "stopping",
    "end",
    "ended",
    "ending",
    "decrease",
    "decreased",
    "decreasing",
    "reduce",
    "reduced",
    "reducing",
    "reduction",
    "improve",
    "improved",
    "improving",
    "improvement",
    "mitigate",
    "mitigated",
    "mitigating",
    "mitigation",
    "workaround",
    "eta",
    "update",
    "progress",
    "change",
    "cause",
    "explanation",
    "relief",
    "prevent",
    "prevented",
    "working",
    "operational",
    "healthy",
    "available",
    "responding",
    "succeeding",
    "because",
    "due",
];

/// Between a trouble and what denies it: "error rate is now 0", "errors were not seen".
pub(super) const LINKS: &[&str] = &[
    "is",
    "are",
    "was",
    "were",
    "been",
    "has",
    "have",
    "had",
    "do",
    "does",
    "did",
    "now",
    "currently",
    "at",
    "rate",
    "rates",
    "count",
    "counts",
    "total",
    "to",
    "any",
    "yet",
    "longer",
    "with",
    "and",
    "or",
    "only",
    "shows",
    "showing",
    "reports",
    "dropped",
    "down",
    "fell",
    "back",
];

/// How many, behind a trouble that is not there.
pub(super) const NOTHING: &[&str] = &["none", "nothing", "nil", "0", "zero", "0.0", "0.00"];

/// What may stand behind a statement without being part of it.
pub(super) const FOLLOWS: &[&str] = &[
    "in", "on", "for", "across", "at", "after", "around", "since", "now", "today", "percent", "and",
];

/// What is said of a trouble that is there.
pub(super) const DETECTED: &[&str] = &[
    "detected",
    "seen",
    "observed",
    "found",
    "reported",
    "noticed",
    "confirmed",
    "present",
    "visible",
    "active",
    "ongoing",
    "occurring",
    "happening",
    "recurred",
    "returned",
    "occurred",
    "happened",
];
