//! The compositions.

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
