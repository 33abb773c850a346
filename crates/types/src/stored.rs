//! Enums that are stored as small numbers, and those that several services store.

/// Declares an enum that is stored as a small number: written by `as i16`, read by `from_i16`.
#[macro_export]
macro_rules! stored_enum {
    ($($(#[$doc:meta])* $name:ident {
        $($(#[$variant_doc:meta])* $variant:ident = $value:literal),+ $(,)?
    })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_doc])* $variant = $value),+ }

        impl $name {
            /// Reads what `as i16` wrote; `None` if that was no code of ours.
            pub const fn from_i16(value: i16) -> Option<Self> {
                match value { $($value => Some(Self::$variant),)+ _ => None }
            }
        }
    )+};
}

stored_enum! {
    /// A member's rights. Ordered: who is greater may do more.
    Role { Member = 1, Admin = 2, Owner = 3 }

    /// Which kind of room it is.
    RoomKind { Direct = 1, Group = 2, Channel = 3, Broadcast = 4, Live = 5 }

    /// Who may become a member by themselves.
    JoinRule { Anyone = 1, AddedOnly = 2, Request = 3 }

    /// Which members may do something.
    #[derive(Default)]
    MemberRule { #[default] Members = 1, Admins = 2 }

    /// How much of the past a member sees.
    #[derive(Default)]
    History { #[default] All = 1, SinceJoin = 2 }
}

impl MemberRule {
    /// Whether the rule lets a member of this role do it.
    pub fn allows(self, role: Role) -> bool {
        match self {
            Self::Members => true,
            Self::Admins => role >= Role::Admin,
        }
    }
}
