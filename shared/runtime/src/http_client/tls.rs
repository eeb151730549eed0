//! TLS of every client.

use std::sync::{Arc, LazyLock};

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, ConfigBuilder, Error, WantsVerifier};
use rustls_platform_verifier::BuilderVerifierExt as _;

/// Trusts whom this machine trusts. One for all clients of a process: the certificates are read and held once.
#[expect(
    clippy::expect_used,
    reason = "only certificates that cannot be read can fail, at start-up"
)]
pub(super) fn config() -> ClientConfig {
    static CONFIG: LazyLock<ClientConfig> = LazyLock::new(|| {
        let trusting = builder().and_then(|builder| builder.with_platform_verifier());
        over_http1(
            trusting
                .expect("this machine's trusted certificates can be read")
                .with_no_client_auth(),
        )
    });
    CONFIG.clone()
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
}

fn over_http1(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

#[cfg(test)]
mod tests;
