//! Numbers that look random and cost nothing (`SplitMix64`, Steele et al. 2014). Two runs with the
//! same arguments ask for the same keys in the same order.

/// A sequence of its own for each seed.
pub(in crate::cli) struct Random(u64);

impl Random {
    pub(in crate::cli) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(in crate::cli) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if that is 0.
    pub(in crate::cli) fn below(&mut self, bound: usize) -> usize {
        let wide = u128::from(self.next()) * (bound as u128);
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// Appends a JSON string of this many bytes, quotes included.
    pub(in crate::cli) fn json_string(&mut self, bytes: usize, out: &mut Vec<u8>) {
        out.push(b'"');
        let end = out.len() + bytes.saturating_sub(2);
        while out.len() < end {
            let letters = self.next().to_le_bytes().map(|b| b'a' + (b & 15));
            let room = letters.len().min(end - out.len());
            out.extend_from_slice(letters.get(..room).unwrap_or_default());
        }
        out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_splitmix64() {
        let mut random = Random::new(1_234_567);
        let want = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        for number in want {
            assert_eq!(random.next(), number);
        }
    }

    #[test]
    fn numbers_below_a_bound_reach_all_of_it() {
        let mut random = Random::new(7);
        let mut seen = [false; 10];
        for _ in 0..1000 {
            seen[random.below(10)] = true;
        }
        assert_eq!(seen, [true; 10]);
        assert_eq!((random.below(1), random.below(0)), (0, 0));
    }

    #[test]
    fn values_are_json_strings_of_the_size_asked_for() {
        for bytes in [2, 3, 9, 10, 11, 100] {
            let mut out = Vec::new();
            Random::new(1).json_string(bytes, &mut out);
            assert_eq!(out.len(), bytes);
            let text: String = serde_json::from_slice(&out).unwrap();
            assert_eq!(text.len(), bytes - 2);
        }
    }
}
