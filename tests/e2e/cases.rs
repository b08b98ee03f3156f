//! The columns of the test matrix.

use crate::rig::{Case, DirectorKind, LoginMode, Version};

/// Makes one `#[test]` for each column of the matrix: both directors, both versions as proxies and
/// as backends, both login modes. Every pair of these occurs.
macro_rules! for_each_case {
    ($name:ident, $body:path) => {
        mod $name {
            for_each_case!(@director dovecot23, Dovecot23, $body);
            for_each_case!(@director homing, Homing, $body);
        }
    };
    (@director $module:ident, $kind:ident, $body:path) => {
        mod $module {
            use crate::rig::DirectorKind;
            #[test]
            fn all_23() {
                $body(crate::cases::ALL_23.with(DirectorKind::$kind));
            }
            #[test]
            fn all_24() {
                $body(crate::cases::ALL_24.with(DirectorKind::$kind));
            }
            #[test]
            fn proxy_23_backends_24_shared_logins() {
                $body(crate::cases::PROXY_23.with(DirectorKind::$kind));
            }
            #[test]
            fn proxy_24_backends_23_shared_logins() {
                $body(crate::cases::PROXY_24.with(DirectorKind::$kind));
            }
        }
    };
}

pub const ALL_23: Case = case(Version::V23, Version::V23, LoginMode::OnePerProcess);
pub const ALL_24: Case = case(Version::V24, Version::V24, LoginMode::OnePerProcess);
pub const PROXY_23: Case = case(Version::V23, Version::V24, LoginMode::ManyPerProcess);
pub const PROXY_24: Case = case(Version::V24, Version::V23, LoginMode::ManyPerProcess);

const fn case(proxy: Version, backends: Version, mode: LoginMode) -> Case {
    Case {
        director: DirectorKind::Dovecot23,
        proxy,
        backends,
        mode,
    }
}

impl Case {
    /// The same column with this director.
    pub const fn with(self, director: DirectorKind) -> Self {
        Self { director, ..self }
    }
}
