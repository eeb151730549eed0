//! What a scenario runs on: processes of this machine, or containers.

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

    /// What the service has written to its log so far.
    fn log(&self, service: &str) -> impl Future<Output = anyhow::Result<Vec<String>>>;
}

/// Ids that occur nowhere else, so that scenarios can share a hub that lives on.
pub fn unique_id() -> String {
    let clock = runtime::clock::Clock::system();
    runtime::ids::time_ordered(clock.now()).simple().to_string()
}
