//! `grpc-timeout`: up to eight digits and a unit.

use std::time::Duration;

/// Reads `200m`, `5S`, `1H`, `30u`, `30n`, `2M`. What is none is as if it were not there.
pub(crate) fn parse(text: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(text).ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3_600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        // Envoy counts whole milliseconds, rounded up so that a little time is not none.
        "u" => Duration::from_millis(count.div_ceil(1_000)),
        "n" => Duration::from_millis(count.div_ceil(1_000_000)),
        _ => return None,
    })
}

/// Writes a time in the finest unit that eight digits hold, milliseconds at the finest.
pub(crate) fn format(timeout: Duration) -> String {
    const LIMIT: u128 = 100_000_000;
    let millis = timeout.as_millis();
    match millis {
        _ if millis < LIMIT => format!("{millis}m"),
        _ if millis / 1_000 < LIMIT => format!("{}S", millis / 1_000),
        _ if millis / 60_000 < LIMIT => format!("{}M", millis / 60_000),
        _ => format!("{}H", (millis / 3_600_000).min(LIMIT - 1)),
    }
}
