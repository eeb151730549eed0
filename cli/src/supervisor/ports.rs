//! Where a service is to listen: chosen before the first starts, so that each can be told of all.

use std::io;

use runtime::config::listen_addr;
use tokio::net::TcpSocket;

pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
    /// Bound and not listening: the service can bind the port too, and nobody else is given it while the service is dead.
    _kept: Option<TcpSocket>,
}

impl Place {
    /// At a free port, where 0 is asked for.
    pub(super) fn take(host: &str, port: u16) -> io::Result<Self> {
        let (port, kept) = match port {
            0 => free_port()?,
            port => (port, None),
        };
        Ok(Self {
            host: host.to_owned(),
            port,
            _kept: kept,
        })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", listen_addr(&self.host, self.port))
    }
}

fn free_port() -> io::Result<(u16, Option<TcpSocket>)> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let port = socket.local_addr()?.port();
    // Elsewhere a port that is bound cannot be bound again.
    Ok((port, cfg!(target_os = "linux").then_some(socket)))
}
