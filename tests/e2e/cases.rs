//! The columns of the test matrix.

use crate::rig::{Case, DirectorKind, DirectorPlacement, LoginMode, Version};

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

/// Makes one `#[test]` for each column and each place where something else than the rig makes the
/// director's sockets: Dovecot's master, or Homing's keeper, as root and not as root. Only Dovecot 2.3 has a director of its
/// own, so the control has the columns with a 2.3 proxy.
macro_rules! for_each_placement {
    ($name:ident, $body:path) => {
        mod $name {
            mod dovecot23_built_in {
                #[test]
                fn all_23() {
                    $body(crate::cases::ALL_23.built_in());
                }
                #[test]
                fn proxy_23_backends_24_shared_logins() {
                    $body(crate::cases::PROXY_23.built_in());
                }
            }
            for_each_placement!(@homing homing_service, DovecotService, $body);
            for_each_placement!(@homing homing_systemd, SystemdLike, $body);
            for_each_placement!(@homing homing_unprivileged, Unprivileged, $body);
        }
    };
    (@homing $module:ident, $placement:ident, $body:path) => {
        mod $module {
            use crate::rig::DirectorPlacement::$placement;
            #[test]
            fn all_23() {
                $body(crate::cases::ALL_23.homing($placement));
            }
            #[test]
            fn all_24() {
                $body(crate::cases::ALL_24.homing($placement));
            }
            #[test]
            fn proxy_23_backends_24_shared_logins() {
                $body(crate::cases::PROXY_23.homing($placement));
            }
            #[test]
            fn proxy_24_backends_23_shared_logins() {
                $body(crate::cases::PROXY_24.homing($placement));
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
        placement: DirectorPlacement::Standalone,
    }
}

impl Case {
    /// The same column with this director.
    pub const fn with(self, director: DirectorKind) -> Self {
        Self { director, ..self }
    }

    /// Homing in this column, at this place.
    pub const fn homing(self, placement: DirectorPlacement) -> Self {
        Self {
            director: DirectorKind::Homing,
            placement,
            ..self
        }
    }

    /// The proxy's own director in this column.
    pub const fn built_in(self) -> Self {
        Self {
            placement: DirectorPlacement::DovecotService,
            ..self
        }
    }
}
