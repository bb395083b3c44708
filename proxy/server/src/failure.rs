//! How a request ended, where it did not end well.

use portolan_wire::http1::Refusal;

/// A short, stable code, in logs, metrics and the header that trusted clients may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flag {
    /// The request itself is malformed.
    BadRequest,
    /// Host and server name belong to different certificates.
    Misdirected,
    /// No route.
    NoRoute,
    /// The route's pool does not exist.
    NoPool,
    /// No endpoint can take it.
    NoHealthyEndpoint,
    /// The request's body is larger than its policy allows.
    BodyTooLarge,
    /// The request's head is larger than the limits allow.
    HeadTooLarge,
    /// The client was too slow.
    ClientTimeout,
    /// The client went away.
    ClientGone,
    /// The endpoint refused, reset, or did not speak HTTP.
    UpstreamFailure,
    /// The endpoint was too slow.
    UpstreamTimeout,
    /// The process left before the request was done.
    Drained,
    /// A bug of ours.
    Internal,
}

impl Flag {
    /// Every flag.
    pub const ALL: [Flag; 13] = [
        Flag::BadRequest,
        Flag::Misdirected,
        Flag::NoRoute,
        Flag::NoPool,
        Flag::NoHealthyEndpoint,
        Flag::BodyTooLarge,
        Flag::HeadTooLarge,
        Flag::ClientTimeout,
        Flag::ClientGone,
        Flag::UpstreamFailure,
        Flag::UpstreamTimeout,
        Flag::Drained,
        Flag::Internal,
    ];

    /// How they are written, in the order of [`Flag::ALL`].
    pub fn names() -> &'static [&'static str] {
        static NAMES: [&str; Flag::ALL.len()] = {
            let mut names = [""; Flag::ALL.len()];
            let mut at = 0;
            while at < names.len() {
                names[at] = Flag::ALL[at].as_str();
                at += 1;
            }
            names
        };
        &NAMES
    }

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "BR",
            Self::Misdirected => "MD",
            Self::NoRoute => "NR",
            Self::NoPool => "NP",
            Self::NoHealthyEndpoint => "NH",
            Self::BodyTooLarge => "BL",
            Self::HeadTooLarge => "HL",
            Self::ClientTimeout => "CT",
            Self::ClientGone => "CG",
            Self::UpstreamFailure => "UF",
            Self::UpstreamTimeout => "UT",
            Self::Drained => "DR",
            Self::Internal => "IE",
        }
    }
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) flag: Flag,
    pub(crate) status: u16,
    /// One sentence for people, without a full stop.
    pub(crate) text: &'static str,
}

impl Failure {
    /// A failure and the status that answers it.
    pub(crate) const fn new(flag: Flag, status: u16, text: &'static str) -> Self {
        Self { flag, status, text }
    }

    /// Its time was over after the response had begun, or with nobody there to notice.
    pub(crate) const CUT: Self =
        Self::new(Flag::UpstreamTimeout, 504, "the exchange did not end in time and was cut");

    /// It was under way when the process left.
    pub(crate) const DRAINED: Self =
        Self::new(Flag::Drained, 503, "the process ended before the exchange did");

    /// A client that neither sends nor takes what it should.
    pub(crate) const SLOW_CLIENT: Self = Self::new(Flag::ClientTimeout, 408, "the client was too slow");

    /// An endpoint that did not do its part.
    pub(crate) const SLOW_UPSTREAM: Self =
        Self::new(Flag::UpstreamTimeout, 504, "the upstream did not answer in time");

    /// A head of HTTP/2 that the library refuses.
    pub(crate) const MALFORMED: Self = Self::new(Flag::BadRequest, 400, "the HTTP/2 request is malformed");

    /// We are nobody's tunnel.
    pub(crate) const CONNECT: Self = Self::new(Flag::BadRequest, 405, "CONNECT is not served here");

    /// The head of a request did not come in time.
    pub(crate) const SLOW_HEAD: Self =
        Self::new(Flag::ClientTimeout, 408, "the request's head comes too slowly");
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let flag = match refusal.status {
            431 | 414 => Flag::HeadTooLarge,
            _ => Flag::BadRequest,
        };
        Self::new(flag, refusal.status, refusal.reason.text())
    }
}
