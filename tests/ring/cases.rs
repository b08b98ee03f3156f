//! The compositions. Rings of Dovecot alone are controls where members only start or wait; changes and outages are
//! not theirs to survive: of changes ordered in a row, or under load, they lose some (docs/protocol/ring.md).

/// Makes a `#[test]` of `body` for each composition, e.g. `hdd: Homing first, then two Dovecots`.
macro_rules! for_each_ring {
    ($name:ident, $body:path, [$($column:ident $members:literal),+ $(,)?]) => {
        mod $name {
            $(
                #[test]
                fn $column() {
                    $body($members);
                }
            )+
        }
    };
}
