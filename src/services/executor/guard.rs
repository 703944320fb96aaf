//! Where requests may go: the guard against being sent into this machine and its networks.
//!
//! May not resolve names or connect. Invariant: an address is let through only if it is a public
//! one, or belongs to an origin that the operator allowed; the daemon's own listeners never are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use url::{Host, Url};

/// Why a request does not go where it was to go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The text is no URL that is spoken here: its author mends it.
    #[error("the URL {0}")]
    Url(&'static str),
    /// It leads where nothing leads but what an operator allows.
    #[error("{host} is {class}; the origin {origin} is not in executors.http.allow_origins")]
    Address {
        /// The name or address that was asked for.
        host: String,
        /// What kind of address it is.
        class: &'static str,
        /// What would have to be allowed.
        origin: String,
    },
    /// It leads to this daemon.
    #[error("{0} is this daemon itself")]
    Ourselves(SocketAddr),
}

/// Scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Whether it is TLS.
    pub tls: bool,
    /// A name in lower case, or an address; IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        let v6 = self.host.contains(':');
        let (open, close) = if v6 { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{}{close}", self.host)?;
        if self.port == if self.tls { 443 } else { 80 } {
            Ok(())
        } else {
            write!(f, ":{}", self.port)
        }
    }
}

impl Origin {
    /// The origin of an URL that [`read`] gave.
    #[must_use]
    pub fn of(url: &Url) -> Self {
        let host = match url.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => String::new(),
        };
        let port = url.port_or_known_default().unwrap_or_default();
        Self { tls: url.scheme() == "https", host, port }
    }
}

/// Reads an URL. It is http or https, names nobody, and spells an IPv4 address in one way only.
pub fn read(text: &str) -> Result<Url, Refusal> {
    let odd = |c: char| c.is_ascii_control() || c.is_whitespace() || c == '\\';
    if text.contains(odd) {
        // Parsers of other programs read these differently.
        return Err(Refusal::Url("has white space, a control character or a backslash in it"));
    }
    let url = Url::parse(text).map_err(|_| Refusal::Url("cannot be read"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Refusal::Url("is neither http nor https"));
    }
    if !url.username().is_empty() || url.password().is_some() || authority(text).contains('@') {
        return Err(Refusal::Url("names a user; use a header"));
    }
    match url.host() {
        Some(Host::Ipv4(address)) if written_host(text) != address.to_string() => {
            Err(Refusal::Url("spells an IPv4 address in an odd way"))
        }
        Some(_) => Ok(url),
        None => Err(Refusal::Url("has no host")),
    }
}

/// What stands between the scheme and the path.
fn authority(text: &str) -> &str {
    let rest = text.split_once(':').map_or("", |(_, rest)| rest).trim_start_matches('/');
    rest.split(['/', '?', '#']).next().unwrap_or("")
}

fn written_host(text: &str) -> &str {
    let authority = authority(text);
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

/// The addresses that this daemon listens at. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Listeners(Arc<RwLock<Vec<SocketAddr>>>);

impl Listeners {
    /// One more.
    pub fn add(&self, address: SocketAddr) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(plain(address));
    }

    /// The first of them.
    pub(super) fn first(&self) -> Option<SocketAddr> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).first().copied()
    }

    fn has(&self, address: SocketAddr) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&plain(address))
    }
}

/// The address that the kernel would connect to.
fn plain(address: SocketAddr) -> SocketAddr {
    let ip = match unwrapped(address.ip()) {
        // Linux takes "any address" for the loopback one.
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The rules of one daemon.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    allowed: Vec<Origin>,
    ours: Listeners,
}

impl Guard {
    /// With these origins allowed wherever they are; an entry that is no origin is an error.
    pub fn new(allow_origins: &[String], ours: Listeners) -> Result<Self, Refusal> {
        let allowed = allow_origins.iter().map(|text| read(text).map(|url| Origin::of(&url)));
        Ok(Self { allowed: allowed.collect::<Result<_, _>>()?, ours })
    }

    /// The same rules with one more origin allowed.
    #[must_use]
    pub fn and(&self, origin: Origin) -> Self {
        let mut wider = self.clone();
        wider.allowed.push(origin);
        wider
    }

    /// Whether a request to `origin` may be sent to `address`.
    pub fn check(&self, origin: &Origin, address: SocketAddr) -> Result<(), Refusal> {
        if self.ours.has(address) {
            return Err(Refusal::Ourselves(address));
        }
        match class(address.ip()) {
            Some(class) if !self.allowed.contains(origin) => Err(Refusal::Address {
                host: origin.host.clone(),
                class,
                origin: origin.to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// What can be said of a URL before its name is resolved: its form, and its address if it is
    /// written as one.
    pub fn look(&self, text: &str) -> Result<Url, Refusal> {
        let url = read(text)?;
        let origin = Origin::of(&url);
        if let Ok(ip) = origin.host.parse() {
            self.check(&origin, SocketAddr::new(ip, origin.port))?;
        }
        Ok(url)
    }
}

/// What kind of address this is, if it is not one of the public network.
#[must_use]
pub fn class(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => class_v4(ip),
        IpAddr::V6(ip) => class_v6(ip),
    }
}

fn class_v4(ip: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = ip.octets();
    Some(match (a, b, c) {
        (0, ..) => "an unspecified address",
        (127, ..) => "a loopback address",
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => "a private address",
        (169, 254, _) => "a link-local address",
        (100, 64..=127, _) => "an address of a provider's network",
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => "a documentation address",
        (224..=239, ..) => "a multicast address",
        (192, 0, 0) | (192, 88, 99) | (198, 18..=19, _) | (240..=255, ..) => "a reserved address",
        // Answers with the secrets of the machine, on the public side of the plan.
        (168, 63, 129) if ip == Ipv4Addr::new(168, 63, 129, 16) => "a metadata address",
        _ => return None,
    })
}

fn class_v6(ip: Ipv6Addr) -> Option<&'static str> {
    if let IpAddr::V4(inner) = unwrapped(IpAddr::V6(ip)) {
        return class_v4(inner);
    }
    let [a, b, ..] = ip.segments();
    Some(match (a, b) {
        _ if ip.is_unspecified() => "an unspecified address",
        _ if ip.is_loopback() => "a loopback address",
        (0xfc00..=0xfdff | 0xfec0..=0xfeff, _) => "a private address",
        (0xfe80..=0xfebf, _) => "a link-local address",
        (0xff00..=0xffff, _) => "a multicast address",
        (0x2001, 0x0db8) | (0x3fff, 0..=0x0fff) => "a documentation address",
        // Teredo hides an IPv4 address; the rest of the block is for protocols, not for servers.
        (0x2001, 0..=0x01ff) => "a reserved address",
        (0x2000..=0x3fff, _) => return None,
        _ => "a reserved address",
    })
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, translated (NAT64), 6to4.
fn unwrapped(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let inner = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => ip,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => inner(high, low),
        _ => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_address_is_known_in_every_form() {
        for (text, is) in [
            ("8.8.8.8", None),
            ("172.32.0.1", None),
            ("100.128.0.1", None),
            ("192.0.1.1", None),
            ("168.63.129.17", None),
            ("0.0.0.0", Some("unspecified")),
            ("0.1.2.3", Some("unspecified")),
            ("127.0.0.1", Some("loopback")),
            ("127.255.255.254", Some("loopback")),
            ("10.0.0.1", Some("private")),
            ("172.16.0.1", Some("private")),
            ("172.31.255.255", Some("private")),
            ("192.168.1.1", Some("private")),
            ("169.254.169.254", Some("link-local")),
            ("100.64.0.1", Some("provider")),
            ("100.100.100.200", Some("provider")),
            ("192.0.0.192", Some("reserved")),
            ("192.0.2.1", Some("documentation")),
            ("198.51.100.1", Some("documentation")),
            ("203.0.113.1", Some("documentation")),
            ("198.18.0.1", Some("reserved")),
            ("192.88.99.1", Some("reserved")),
            ("224.0.0.1", Some("multicast")),
            ("239.255.255.255", Some("multicast")),
            ("240.0.0.1", Some("reserved")),
            ("255.255.255.255", Some("reserved")),
            ("168.63.129.16", Some("metadata")),
        ] {
            let v4: Ipv4Addr = text.parse().unwrap();
            let [a, b, c, d] = v4.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let mut forms = vec![
                IpAddr::V4(v4),
                format!("::ffff:{text}").parse().unwrap(),
                format!("::ffff:0:{text}").parse().unwrap(),
                format!("64:ff9b::{text}").parse().unwrap(),
                format!("2002:{high:x}:{low:x}::1").parse().unwrap(),
            ];
            if high != 0 {
                forms.push(format!("::{text}").parse().unwrap());
            }
            for form in forms {
                let class = class(form);
                let fits = is.map_or(class.is_none(), |is| class.is_some_and(|c| c.contains(is)));
                assert!(fits, "{form}: {class:?}, not {is:?}");
            }
        }
    }

    #[test]
    fn every_class_of_ipv6_is_known() {
        for (text, is) in [
            ("2606:4700::1111", None),
            ("2a00:1450::1", None),
            ("2001:200::1", None),
            ("::", Some("unspecified")),
            ("::1", Some("loopback")),
            ("fc00::1", Some("private")),
            ("fd00:ec2::254", Some("private")),
            ("fe80::1", Some("link-local")),
            ("fec0::1", Some("private")),
            ("ff02::1", Some("multicast")),
            ("2001:db8::1", Some("documentation")),
            ("3fff::1", Some("documentation")),
            ("2001::1", Some("reserved")),
            ("2001:2::1", Some("reserved")),
            ("2001:20::1", Some("reserved")),
            ("64:ff9b:1::1", Some("reserved")),
            ("100::1", Some("reserved")),
            ("5f00::1", Some("reserved")),
            ("4000::1", Some("reserved")),
        ] {
            let class = class(text.parse().unwrap());
            let fits = is.map_or(class.is_none(), |is| class.is_some_and(|c| c.contains(is)));
            assert!(fits, "{text}: {class:?}, not {is:?}");
        }
    }

    #[test]
    fn odd_urls_are_refused() {
        for (text, why) in [
            ("ftp://example.com/", "neither"),
            ("file:///etc/passwd", "neither"),
            ("http:///", "cannot be read"),
            ("example.com", "cannot be read"),
            ("http://user@example.com/", "user"),
            ("http://user:pass@example.com/", "user"),
            ("http://@example.com/", "user"),
            ("http://example.com\\@127.0.0.1/", "backslash"),
            ("http://exa\nmple.com/", "control"),
            (" http://example.com/", "white space"),
            ("http://2130706433/", "odd way"),
            ("http://0x7f000001/", "odd way"),
            ("http://0x7f.1/", "odd way"),
            ("http://0177.0.0.1/", "odd way"),
            ("http://127.1/", "odd way"),
            ("http://127.0.0.1./", "odd way"),
            ("http://%31%32%37.0.0.1/", "odd way"),
            ("http://１２７.0.0.1/", "odd way"),
            ("http:127.1/", "odd way"),
            ("http://8.8.2056/", "odd way"),
        ] {
            let said = read(text).unwrap_err().to_string();
            assert!(said.contains(why), "{text}: {said}");
        }
        for text in ["http://example.com", "https://[2606:4700::1111]:8443/x?y#z", "http://8.8.8.8"]
        {
            assert!(read(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn an_origin_is_allowed_whole_and_ourselves_never() {
        let ours = Listeners::default();
        ours.add("127.0.0.1:8080".parse().unwrap());
        let allow = ["http://localhost:9000".to_owned(), "http://127.0.0.1:8080/".to_owned()];
        let guard = Guard::new(&allow, ours).unwrap();
        let origin = |text: &str| Origin::of(&read(text).unwrap());
        let home = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(guard.check(&origin("http://localhost:9000/x"), home(9000)), Ok(()));
        for other in ["http://localhost:9001", "https://localhost:9000", "http://127.0.0.1:9000"] {
            let refused = guard.check(&origin(other), home(origin(other).port)).unwrap_err();
            assert!(refused.to_string().contains(&format!("{other} is not in")), "{refused}");
        }
        for ourselves in ["127.0.0.1:8080", "[::ffff:127.0.0.1]:8080", "0.0.0.0:8080"] {
            let address = ourselves.parse().unwrap();
            let refused = guard.check(&origin("http://127.0.0.1:8080"), address);
            assert_eq!(refused, Err(Refusal::Ourselves(address)));
        }
        assert!(guard.look("http://[::ffff:10.0.0.1]/").is_err());
        assert!(guard.look("http://name.example/").is_ok(), "names are looked at later");
        let wider = guard.and(origin("http://10.0.0.1"));
        assert!(
            wider.look("http://10.0.0.1/x").is_ok() && guard.look("http://10.0.0.1/x").is_err()
        );
        assert!(Guard::new(&["localhost".to_owned()], Listeners::default()).is_err());
    }

    #[test]
    fn origins_are_shown_as_they_are_written() {
        for text in
            ["http://a.example", "https://a.example:80", "http://[::1]:8080", "https://1.1.1.1"]
        {
            assert_eq!(Origin::of(&read(text).unwrap()).to_string(), text);
        }
    }
}
