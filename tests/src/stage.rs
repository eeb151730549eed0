//! What a scenario runs on: processes of this machine, or containers.

use std::any::Any;

use crate::receiver::Receiving;

/// A receiver of webhooks beside a hub.
pub struct Listening {
    /// Where the hub's services post, without a slash at the end; any path of it is a webhook's.
    pub url: String,
    /// The same receiver as a test reaches it.
    pub asked_at: String,
    /// It receives until this is dropped, at the latest until the hub ends.
    pub(crate) _until: Box<dyn Any + Send>,
}

impl Listening {
    /// A URL of this receiver, as a test has to ask it. `None` for another's.
    pub fn asked(&self, url: &str) -> Option<String> {
        let path = url.strip_prefix(&self.url)?;
        let within = path.is_empty() || path.starts_with('/');
        within.then(|| format!("{}{path}", self.asked_at))
    }
}

/// A running hub.
pub trait Stage {
    /// The gateway's base URL, without a slash at the end.
    fn gateway_url(&self) -> &str;

    /// The secret that Stripe's events are signed with.
    fn stripe_secret(&self) -> &str;

    /// `kill -9`; the service stays dead until [`Stage::restart`].
    fn kill(&self, service: &str) -> impl Future<Output = anyhow::Result<()>>;

    /// Starts a service that was killed. It may take a moment until it answers.
    fn restart(&self, service: &str) -> impl Future<Output = anyhow::Result<()>>;

    /// Starts a receiver that the services reach.
    fn receive(&self, receiving: &Receiving) -> impl Future<Output = anyhow::Result<Listening>>;

    /// What the service has written to its log so far.
    fn log(&self, service: &str) -> impl Future<Output = anyhow::Result<Vec<String>>>;
}

/// Ids that occur nowhere else, so that scenarios can share a hub that lives on.
pub fn unique_id() -> String {
    let clock = runtime::clock::Clock::system();
    runtime::ids::time_ordered(clock.now()).simple().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_is_asked_where_a_test_reaches_it() {
        let listening = Listening {
            url: "http://receiver-1:4000".to_owned(),
            asked_at: "http://127.0.0.1:32768".to_owned(),
            _until: Box::new(()),
        };

        for (url, asked) in [
            (
                "http://receiver-1:4000/received",
                Some("http://127.0.0.1:32768/received"),
            ),
            ("http://receiver-1:4000", Some("http://127.0.0.1:32768")),
            ("http://receiver-1:40001/received", None),
            ("http://receiver-2:4000/received", None),
        ] {
            assert_eq!(listening.asked(url).as_deref(), asked, "{url}");
        }
    }
}
