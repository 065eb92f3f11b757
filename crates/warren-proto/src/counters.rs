//! Counts of several things that go up together: their sums, differences and Protobuf messages, from one list of them.

/// Makes the type and its way to and from the generated message, whose fields have the same names.
macro_rules! counters {
    ($(#[$doc:meta])* $name:ident as $wire:ident { $($(#[$what:meta])* $field:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$what])* pub $field: u64,)*
        }

        impl $name {
            /// What has happened since `earlier`.
            #[must_use]
            pub fn since(self, earlier: Self) -> Self {
                Self { $($field: self.$field.saturating_sub(earlier.$field),)* }
            }

            /// Both together.
            #[must_use]
            pub fn and(self, other: Self) -> Self {
                Self { $($field: self.$field.saturating_add(other.$field),)* }
            }

            /// Nothing where nothing has happened: there may be many of them.
            pub(crate) fn to_wire(self) -> Option<$wire> {
                (self != Self::default()).then_some($wire { $($field: self.$field,)* })
            }

            pub(crate) fn from_wire(told: Option<$wire>) -> Self {
                told.map(|told| Self { $($field: told.$field,)* }).unwrap_or_default()
            }
        }
    };
}

pub(crate) use counters;
