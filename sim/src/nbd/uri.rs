// SPDX-License-Identifier: MIT

//! Where a server listens, as the command line writes it (`unix:PATH`, `tcp:HOST:PORT`) and as an
//! NBD URI, one per export ("The NBD Uniform Resource Indicator (URI) format", `doc/uri.md`).

use std::fmt::Write;
use std::path::PathBuf;
use std::str::FromStr;

/// The IANA port for NBD.
const PORT: u16 = 10809;

/// An address of an NBD server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// Host and port.
    Tcp(String, u16),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let tcp = text.strip_prefix("tcp:").and_then(host_and_port);
        let (host, port) =
            tcp.ok_or_else(|| format!("`{text}` is neither unix:PATH nor tcp:HOST:PORT"))?;
        Ok(Self::Tcp(host, port))
    }
}

impl Address {
    /// The URI of an export behind this address.
    #[must_use]
    pub fn uri(&self, export: &str) -> String {
        let name = encoded(export.as_bytes(), b"@");
        match self {
            Self::Unix(path) => {
                let path = encoded(path.as_os_str().as_encoded_bytes(), b"/");
                format!("nbd+unix:///{name}?socket={path}")
            }
            Self::Tcp(host, port) if host.contains(':') => format!("nbd://[{host}]:{port}/{name}"),
            Self::Tcp(host, port) => format!("nbd://{host}:{port}/{name}"),
        }
    }

    /// The address and the export that a URI names.
    ///
    /// # Errors
    ///
    /// A sentence, if it is not such a URI.
    pub fn from_uri(uri: &str) -> Result<(Self, String), String> {
        let parsed = if let Some(rest) = uri.strip_prefix("nbd+unix:///") {
            rest.split_once("?socket=").and_then(|(name, path)| {
                Some((Self::Unix(PathBuf::from(decoded(path)?)), decoded(name)?))
            })
        } else {
            uri.strip_prefix("nbd://").and_then(|rest| {
                let (place, name) = rest.split_once('/').unwrap_or((rest, ""));
                let (host, port) = host_and_port(place)?;
                Some((Self::Tcp(host, port), decoded(name)?))
            })
        };
        parsed.ok_or_else(|| format!("`{uri}` is not an NBD URI that is understood here"))
    }
}

/// `HOST:PORT`, `[V6]:PORT`, or a host alone.
fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (text, PORT),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

/// Percent-encoded but for unreserved characters and those in `also`.
fn encoded(bytes: &[u8], also: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || also.contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// The text behind percent-encoding; `None` if it is broken or not UTF-8.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (hex, behind) = rest.split_first_chunk::<2>()?;
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
        bytes.push((digit(hex[0])? << 4) | digit(hex[1])?);
        rest = behind;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_command_line() {
        assert_eq!("unix:/run/a".parse(), Ok(Address::Unix("/run/a".into())));
        assert_eq!("tcp:localhost:1".parse(), Ok(Address::Tcp("localhost".into(), 1)));
        assert_eq!("tcp:[::1]:1".parse(), Ok(Address::Tcp("::1".into(), 1)));
        assert_eq!("tcp:[::1]".parse(), Ok(Address::Tcp("::1".into(), PORT)));
        for bad in ["", "unix:", "tcp:", "tcp::1", "tcp:a:b", "udp:a:1"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn uris_go_there_and_back() {
        let unix = Address::Unix("/run/r w/s?".into());
        assert_eq!(unix.uri("prod@monday"), "nbd+unix:///prod@monday?socket=/run/r%20w/s%3F");
        let tcp = Address::Tcp("::1".into(), 10809);
        assert_eq!(tcp.uri("dev1"), "nbd://[::1]:10809/dev1");
        for address in [unix, tcp, Address::Tcp("localhost".into(), 7)] {
            for name in ["", "prod@monday", "\u{e4}/\u{f6}%?&"] {
                let back = Address::from_uri(&address.uri(name));
                assert_eq!(back, Ok((address.clone(), name.to_owned())));
            }
        }
        for bad in ["", "nbd:", "nbds://h/", "nbd+unix:///a", "nbd://h/%4", "nbd://h/%ff"] {
            assert!(Address::from_uri(bad).is_err(), "{bad}");
        }
    }
}
