//! Why was a message refused, and with which status?
//!
//! One table holds code, status and sentence of every reason. Neither code nor sentence ever carries a byte the
//! client sent, so both may go into logs, headers and answers as they stand.

/// A refused message: the status to answer with and the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status code to answer with.
    pub status: u16,
    /// Why.
    pub reason: RefusalReason,
}

impl From<RefusalReason> for Refusal {
    fn from(reason: RefusalReason) -> Self {
        Self { status: reason.status(), reason }
    }
}

macro_rules! reasons {
    ($($name:ident $status:literal $code:literal $text:literal)*) => {
        /// Why a message was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum RefusalReason {
            $(#[doc = $text] $name,)*
        }

        impl RefusalReason {
            /// Every reason, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The HTTP status that answers it.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// The stable code for logs and metrics, in kebab case.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// One sentence for people, without a full stop.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

reasons! {
    TlsHandshake 400 "tls-handshake" "a TLS handshake was sent where plain HTTP is spoken"
    Http2Preface 505 "http2-preface" "the HTTP/2 connection preface was sent where HTTP/1 is spoken"
    BareLf 400 "bare-lf" "a line ends with LF alone"
    BareCr 400 "bare-cr" "a CR is not followed by LF"
    ControlByte 400 "control-byte" "a line holds a control character"
    EmptyLine 400 "empty-line" "more than one empty line precedes the request line"

    RequestLine 400 "request-line" "the request line is not method, target and version with one space between"
    RequestLineTooLong 414 "request-line-too-long" "the request line is longer than the limit"
    Method 400 "method" "the method is not a token"
    Version 505 "version" "the HTTP version is neither 1.0 nor 1.1"
    TargetByte 400 "target-byte" "the request target holds a byte that must be percent-encoded"
    TargetFragment 400 "target-fragment" "the request target holds a fragment"
    TargetEscape 400 "target-escape" "the path holds a percent sign without two hexadecimal digits"
    TargetNul 400 "target-nul" "the path holds an encoded NUL"
    TargetEncodedSlash 400 "target-encoded-slash" "the path holds an encoded slash or backslash"
    TargetForm 400 "target-form" "the request target has a form that its method does not allow"
    TargetScheme 400 "target-scheme" "the request target is absolute and neither http nor https"
    TargetAuthority 400 "target-authority" "the authority in the request target is not a host with an optional port"

    HeadersTooLarge 431 "headers-too-large" "the header block is larger than the limit"
    TooManyHeaders 431 "too-many-headers" "there are more headers than the limit"
    ObsoleteFold 400 "obsolete-fold" "a header is continued on a second line"
    HeaderName 400 "header-name" "a header name is not a token"
    SpaceBeforeColon 400 "space-before-colon" "white space stands between a header name and its colon"
    HeaderWithoutColon 400 "header-without-colon" "a header line has no colon"

    HostMissing 400 "host-missing" "an HTTP/1.1 request has no Host"
    HostTwice 400 "host-twice" "a request has more than one Host"
    HostInvalid 400 "host-invalid" "the Host is not a host with an optional port"
    HostMismatch 400 "host-mismatch" "the Host differs from the authority in the request target"

    ContentLength 400 "content-length" "the Content-Length is not one decimal number that fits 63 bits"
    ContentLengthTwice 400 "content-length-twice" "a request has more than one Content-Length"
    TransferEncoding 400 "transfer-encoding" "the Transfer-Encoding is empty"
    TransferEncodingTwice 400 "transfer-encoding-twice" "chunked is applied more than once"
    TransferEncodingUnknown 501 "transfer-encoding-unknown" "a transfer coding other than chunked is used"
    TransferEncodingHttp10 400 "transfer-encoding-http10" "an HTTP/1.0 request has a Transfer-Encoding"
    FramingConflict 400 "framing-conflict" "a request has both Content-Length and Transfer-Encoding"
    ConnectBody 400 "connect-body" "a CONNECT request has a body"
    ConnectionOption 400 "connection-option" "the Connection header is not a list of tokens"
    ConnectionReserved 400 "connection-reserved" "the Connection header names a field that must not be dropped on the way"
    Expectation 417 "expectation" "the expectation is not 100-continue"

    ChunkSize 400 "chunk-size" "a chunk size is not one to sixteen hexadecimal digits that fit 63 bits"
    ChunkExtension 400 "chunk-extension" "a chunk extension holds a byte that is not printable"
    ChunkExtensionsTooLong 400 "chunk-extensions-too-long" "the chunk extensions of a message are longer than the limit"
    ChunkEnd 400 "chunk-end" "a chunk or its size line does not end with CRLF"
    TrailersTooLarge 431 "trailers-too-large" "the trailer section is larger than the limit"
    TooManyTrailers 431 "too-many-trailers" "there are more trailers than the limit"
    TrailerReserved 400 "trailer-reserved" "a trailer carries a field that frames, routes or authenticates"
}
