use std::net::SocketAddr;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, SignatureAlgorithm,
    date_time_ymd,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::super::hostile::trusting;
use super::super::{failure_code, failure_reason};
use super::*;

/// Issues certificates that nobody but a test trusts.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    roots: RootCertStore,
}

impl Authority {
    fn signing_with(algorithm: &'static SignatureAlgorithm) -> Self {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // A name of its own: an authority is looked for by name.
        let name = format!("{:x?}", &key.public_key_raw()[..16]);
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            roots,
        }
    }

    fn trusting(&self) -> ClientConfig {
        let roots = self.roots.clone();
        over_http1(
            builder()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth(),
        )
    }

    fn issue(&self, params: &CertificateParams, key: &KeyPair) -> Issued {
        let certificate = params.signed_by(key, &self.issuer).unwrap();
        Issued {
            certificate: certificate.der().clone(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()),
        }
    }
}

struct Issued {
    certificate: rustls::pki_types::CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

impl Issued {
    fn speaking(&self, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
        ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key().into())
            .unwrap()
    }
}

/// Answers 204 to everything that comes over TLS.
async fn serve(config: ServerConfig) -> SocketAddr {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await?;
                let _read = stream.read(&mut [0; 4096]).await?;
                let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
                stream.write_all(answer).await?;
                stream.shutdown().await
            });
        }
    });
    address
}

async fn post(address: SocketAddr, tls: ClientConfig) -> reqwest_middleware::Result<u16> {
    let client = trusting(Arc::new(|_, _| true), tls);
    let url = format!("https://{address}/hook");
    Ok(client.post(url).body("{}").send().await?.status().as_u16())
}

#[tokio::test]
async fn every_curve_and_hash_that_browsers_take_is_taken() {
    for (of_authority, of_server) in [
        (&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P256_SHA256),
        (&PKCS_ECDSA_P384_SHA384, &PKCS_ECDSA_P384_SHA384),
        (&PKCS_ED25519, &PKCS_ED25519),
        // A key on P-521, a signature of ECDSA with SHA-512, and both.
        (&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P521_SHA512),
        (&PKCS_ECDSA_P521_SHA512, &PKCS_ECDSA_P256_SHA256),
        (&PKCS_ECDSA_P521_SHA512, &PKCS_ECDSA_P521_SHA512),
    ] {
        let authority = Authority::signing_with(of_authority);
        let key = KeyPair::generate_for(of_server).unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let config = authority.issue(&params, &key).speaking(&[version]);
            let answer = post(serve(config).await, authority.trusting()).await;
            assert_eq!(
                answer.unwrap(),
                204,
                "{of_server:?} by {of_authority:?}, {version:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_taken_is_told_with_its_reason() {
    let authority = Authority::signing_with(&PKCS_ECDSA_P256_SHA256);
    let foreign = Authority::signing_with(&PKCS_ECDSA_P256_SHA256);
    let key = KeyPair::generate().unwrap();
    let params = |name: &str| CertificateParams::new([name.to_owned()]).unwrap();
    let (mut expired, mut early, mut of_an_authority) = (
        params("127.0.0.1"),
        params("127.0.0.1"),
        params("127.0.0.1"),
    );
    expired.not_after = date_time_ymd(2001, 1, 1);
    early.not_before = date_time_ymd(4000, 1, 1);
    of_an_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    for (params, by, reason) in [
        (&expired, &authority, "expired"),
        (&early, &authority, "not_yet_valid"),
        (&params("127.0.0.1"), &foreign, "unknown_issuer"),
        (&of_an_authority, &foreign, "unknown_issuer"),
        (&params("elsewhere.example"), &authority, "wrong_name"),
    ] {
        let config = by.issue(params, &key).speaking(rustls::ALL_VERSIONS);
        let fault = post(serve(config).await, authority.trusting())
            .await
            .unwrap_err();
        assert_eq!(failure_code(&fault), "tls_error", "{fault:?}");
        assert_eq!(failure_reason(&fault), Some(reason), "{fault:?}");
    }
}

#[tokio::test]
async fn what_does_not_speak_our_tls_is_told_with_its_reason() {
    let authority = Authority::signing_with(&PKCS_ECDSA_P256_SHA256);
    for (answer, reason) in [
        // Plain HTTP, and two alerts: of the version, and of anything else.
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "not_tls"),
        (&[21, 3, 3, 0, 2, 2, 70], "unsupported"),
        (&[21, 3, 3, 0, 2, 2, 80], "refused"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await?;
            let _hello = stream.read(&mut [0; 4096]).await?;
            stream.write_all(answer).await?;
            stream.read(&mut [0; 4096]).await
        });
        let fault = post(address, authority.trusting()).await.unwrap_err();
        assert_eq!(failure_code(&fault), "tls_error", "{fault:?}");
        assert_eq!(failure_reason(&fault), Some(reason), "{fault:?}");
    }
}

#[tokio::test]
async fn only_a_failure_of_tls_has_a_reason() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let authority = Authority::signing_with(&PKCS_ECDSA_P256_SHA256);
    let fault = post(address, authority.trusting()).await.unwrap_err();
    assert_eq!(failure_reason(&fault), None, "{fault:?}");
}
