//! What a connection is made of, below HTTP.
//!
//! In:    any stream of bytes
//! Out:   [`Io`]
//! Calls: connection, greeting
//! Holds: nothing here knows whether it is TLS, a proxy or a pipe
//! Upstream: none

use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes both ways.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}
