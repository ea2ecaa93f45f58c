//! How much may be spent on read repair. What it cannot afford now, a later read or anti-entropy
//! does.

use std::time::Duration;

/// Bytes a second, on each worker.
const REPAIR_RATE: u64 = 4 * 1024 * 1024;
/// Bytes that may be saved up.
const SAVINGS: u64 = REPAIR_RATE;
/// What a repair costs at least, however small the state: it is a write with a sync.
const LEAST: u64 = 4 * 1024;

/// A budget of bytes that fills with time.
#[derive(Debug, Clone)]
pub struct RepairBudget {
    /// In billionths of a byte, so that no moment is too short to earn its part.
    left: u128,
    filled: Duration,
}

const BYTE: u128 = 1_000_000_000;
const FULL: u128 = SAVINGS as u128 * BYTE;

impl Default for RepairBudget {
    fn default() -> Self {
        Self {
            left: FULL,
            filled: Duration::ZERO,
        }
    }
}

impl RepairBudget {
    /// Whether a state of so many bytes may be sent now; if so, it is paid for. `now` is the time
    /// since the budget's beginning. A state larger than all savings is sent when they are full.
    pub fn spend(&mut self, now: Duration, bytes: usize) -> bool {
        let earned = now.saturating_sub(self.filled).as_nanos() * u128::from(REPAIR_RATE);
        self.left = FULL.min(self.left + earned);
        self.filled = self.filled.max(now);
        let cost = u64::try_from(bytes)
            .unwrap_or(SAVINGS)
            .clamp(LEAST, SAVINGS);
        let rest = self.left.checked_sub(u128::from(cost) * BYTE);
        self.left = rest.unwrap_or(self.left);
        rest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_are_bounded_by_bytes_and_by_number() {
        let rows = [
            ("small ones, at once", 10, 0, SAVINGS / LEAST),
            ("small ones, after a second", 10, 1, SAVINGS / LEAST * 2),
            ("large ones, at once", 1024 * 1024, 0, 4),
            ("large ones, after a second", 1024 * 1024, 1, 8),
            ("one beyond all savings", usize::MAX, 0, 1),
            ("two beyond all savings", usize::MAX, 1, 2),
        ];
        for (row, bytes, seconds, expected) in rows {
            let mut budget = RepairBudget::default();
            let mut sent = 0;
            for second in 0..=seconds {
                let now = Duration::from_secs(second);
                sent += (0..9999).filter(|_| budget.spend(now, bytes)).count();
            }
            assert_eq!(u64::try_from(sent).unwrap(), expected, "{row}");
        }
    }

    #[test]
    fn a_moment_too_short_to_earn_a_byte_earns_with_the_next() {
        let mut budget = RepairBudget::default();
        while budget.spend(Duration::ZERO, 0) {}
        let nanos = |n| Duration::from_nanos(n);
        let sent = (0..1_000_000u64).filter(|n| budget.spend(nanos(n * 1000), 0));
        assert!(sent.count() >= 1000, "a second in steps of a microsecond");
    }
}
