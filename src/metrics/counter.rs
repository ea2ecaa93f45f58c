//! Numbers that only rise, several at a time, told apart by an enum.

use std::sync::atomic::{AtomicU64, Ordering};

/// An enum whose variants are counted apart: numbered from 0, named in a label.
pub trait Label: Copy + 'static {
    /// Every variant, each at the place of its number.
    const ALL: &'static [Self];

    /// The variant's number.
    fn number(self) -> usize;

    /// The label's value.
    fn as_str(self) -> &'static str;
}

/// Declares an enum of label values.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)+
        }

        impl $crate::metrics::counter::Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn number(self) -> usize {
                self as usize
            }

            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}
pub(crate) use labels;

/// One counter for each combination of up to three labels.
#[derive(Debug)]
pub struct Counters(Box<[AtomicU64]>);

impl Counters {
    /// So many, all at zero.
    #[must_use]
    pub fn new(many: usize) -> Self {
        Self((0..many).map(|_| AtomicU64::new(0)).collect())
    }

    /// Counts one at this place.
    pub fn count(&self, place: usize) {
        if let Some(counter) = self.0.get(place) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The count at this place.
    #[must_use]
    pub fn at(&self, place: usize) -> u64 {
        self.0.get(place).map_or(0, |c| c.load(Ordering::Relaxed))
    }
}
