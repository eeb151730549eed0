//! TLS of every client.

use std::sync::{Arc, LazyLock};

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ConfigBuilder, Error, InvalidMessage,
    WantsVerifier,
};
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

/// Why there is no agreement, in a stable word.
pub(super) fn reason(fault: &Error) -> &'static str {
    match fault {
        Error::InvalidCertificate(fault) => certificate_reason(fault),
        Error::NoCertificatesPresented => "invalid_certificate",
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => "unsupported",
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => "not_tls",
        Error::AlertReceived(alert) => alert_reason(*alert),
        _ => "protocol",
    }
}

fn certificate_reason(fault: &CertificateError) -> &'static str {
    match fault {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "not_yet_valid"
        }
        CertificateError::UnknownIssuer => "unknown_issuer",
        // An authority's own certificate, as tools make them for a server that signs for itself.
        CertificateError::Other(fault) if fault.to_string().contains("CaUsedAsEndEntity") => {
            "unknown_issuer"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "wrong_name"
        }
        CertificateError::Revoked => "revoked",
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "unsupported"
        }
        _ => "invalid_certificate",
    }
}

/// What the other side said before it hung up.
fn alert_reason(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::ProtocolVersion
        | AlertDescription::HandshakeFailure
        | AlertDescription::InsufficientSecurity
        | AlertDescription::NoApplicationProtocol => "unsupported",
        AlertDescription::UnrecognisedName => "wrong_name",
        AlertDescription::CertificateRequired
        | AlertDescription::BadCertificate
        | AlertDescription::NoCertificate => "client_certificate_required",
        _ => "refused",
    }
}

#[cfg(test)]
mod tests;
