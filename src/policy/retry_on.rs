//! `retryOn`: the words, as a set.

/// What a retry is made on: the words of Istio's `retryOn`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RetryOn(u32);

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $word:literal;)*) => {
        impl RetryOn {
            $($(#[$doc])* pub const $name: RetryOn = RetryOn(1 << $bit);)*

            const WORDS: &[(RetryOn, &str)] = &[$((RetryOn::$name, $word)),*];
        }
    };
}

words! {
    /// Any 5xx, or no response.
    SERVER_ERROR = 0, "5xx";
    /// 502, 503, 504, or no response.
    GATEWAY_ERROR = 1, "gateway-error";
    /// No response: reset, disconnect, no connection, a try's timeout.
    RESET = 2, "reset";
    /// Reset before any byte was sent.
    RESET_BEFORE_REQUEST = 3, "reset-before-request";
    /// No connection.
    CONNECT_FAILURE = 4, "connect-failure";
    /// HTTP/2's REFUSED_STREAM.
    REFUSED_STREAM = 5, "refused-stream";
    /// 409.
    RETRIABLE_4XX = 6, "retriable-4xx";
    /// The statuses that the policy lists.
    RETRIABLE_STATUS_CODES = 7, "retriable-status-codes";
    /// Response headers that the policy lists (Istio lists none).
    RETRIABLE_HEADERS = 8, "retriable-headers";
    /// A response with `x-envoy-ratelimited`.
    ENVOY_RATELIMITED = 9, "envoy-ratelimited";
    /// HTTP/3 only.
    HTTP3_POST_CONNECT_FAILURE = 10, "http3-post-connect-failure";
    /// gRPC status 1.
    CANCELLED = 11, "cancelled";
    /// gRPC status 4.
    DEADLINE_EXCEEDED = 12, "deadline-exceeded";
    /// gRPC status 13.
    INTERNAL = 13, "internal";
    /// gRPC status 8.
    RESOURCE_EXHAUSTED = 14, "resource-exhausted";
    /// gRPC status 14.
    UNAVAILABLE = 15, "unavailable";
}

impl RetryOn {
    /// The words of a comma-separated list; what is none is left out.
    pub fn parse(list: &str) -> RetryOn {
        list.split(',')
            .filter_map(|word| RetryOn::from_word(word.trim()))
            .fold(RetryOn::default(), |all, one| all | one)
    }

    /// The gRPC statuses.
    const GRPC: RetryOn = RetryOn(
        RetryOn::CANCELLED.0
            | RetryOn::DEADLINE_EXCEEDED.0
            | RetryOn::INTERNAL.0
            | RetryOn::RESOURCE_EXHAUSTED.0
            | RetryOn::UNAVAILABLE.0,
    );

    /// The words of `x-envoy-retry-on`: those that are not of gRPC.
    pub(crate) fn parse_http(list: &str) -> RetryOn {
        RetryOn(RetryOn::parse(list).0 & !RetryOn::GRPC.0)
    }

    /// The words of `x-envoy-retry-grpc-on`.
    pub(crate) fn parse_grpc(list: &str) -> RetryOn {
        RetryOn(RetryOn::parse(list).0 & RetryOn::GRPC.0)
    }

    /// One word.
    pub fn from_word(word: &str) -> Option<RetryOn> {
        RetryOn::WORDS.iter().find(|(_, known)| *known == word).map(|(on, _)| *on)
    }

    /// Is any of `other` in the set?
    pub const fn intersects(self, other: RetryOn) -> bool {
        self.0 & other.0 != 0
    }
}

impl std::ops::BitOr for RetryOn {
    type Output = RetryOn;

    fn bitor(self, other: RetryOn) -> RetryOn {
        RetryOn(self.0 | other.0)
    }
}
