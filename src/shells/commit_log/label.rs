//! The labels of recovery: what a log turned out to be (L), what a run's journal did (J40 to J47).
//!
//! May not judge. Invariant: labels are stable; each has one title here and one section in the
//! pages.

use std::fmt;

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident, $all:ident: $($label:ident $title:literal,)*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "the title says it")]
        pub enum $name { $($label,)* }

        /// All of them, in order.
        pub const $all: &[$name] = &[$($name::$label,)*];

        impl $name {
            /// The label.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$label => stringify!($label),)* }
            }

            /// One line for people.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$label => $title,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

labels! {
    /// What the commit log turned out to be.
    Label, LABELS:
    L0 "the log ends cleanly",
    L1 "the last batch was cut short; nobody was told that it was written",
    L2 "batches of the log do not follow from each other",
    L3 "a batch of the log verifies and says what cannot be",
    L4 "a segment of the log is missing or is not one",
    L5 "a batch of the log is unreadable and later ones are not",
    L6 "segments of the log do not fit together",
    L7 "the log lost a batch that was acknowledged",
    L8 "the log ends before what others have seen of it",
    L9 "bytes of the log that do not matter are damaged",
    L10 "the log cannot be read",
}

labels! {
    /// How a run's journal compares with what the log holds of it.
    RunCase, RUN_CASES:
    J40 "the run's directory was not made yet",
    J41 "the run's directory is gone",
    J42 "the journal holds what the log does",
    J43 "the journal lacks what the log holds",
    J44 "journal and log tell two histories",
    J45 "the journal holds more than the log",
    J46 "the part of the journal that was settled is damaged",
    J47 "somebody else holds the run",
    J60 "the journal cannot be read",
}
