//! What readers are told of where a session stands.

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Status {
    Starting,
    Pending,
    Authorized,
    Claimed,
    Denied,
    Expired,
    Cancelled,
    Failed,
}

impl Status {
    pub const ALL: [Self; 8] =
        [Self::Starting, Self::Pending, Self::Authorized, Self::Claimed, Self::Denied, Self::Expired, Self::Cancelled, Self::Failed];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Pending => "pending",
            Self::Authorized => "authorized",
            Self::Claimed => "claimed",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }

    pub fn is_settled(self) -> bool {
        matches!(self, Self::Claimed | Self::Denied | Self::Expired | Self::Cancelled | Self::Failed)
    }
}
