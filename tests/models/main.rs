//! What holds for every ready-made model, run over each of them: the same answers over both ring formats and
//! every transport, across a restore and across a suspension, and a reset that cures whatever a driver did.
//!
//! [`ModelCase`] says how a model is built and used. What only one model does is in the suite of its name.

mod blk;
mod carried;
mod case;
mod changed;
mod console;
mod conversation;
mod differential;
mod entropy;
mod gone;
mod gpio;
mod i2c;
mod raced;
mod refused;
mod spi;
mod suspended;

use case::ModelCase;

/// Makes a module for each model named, with a test of each function named, which takes a [`ModelCase`].
macro_rules! over_models {
    ($($model:ident)+: $tests:tt) => {
        $(over_models!(@ $model $tests);)+
    };
    (@ $model:ident { $($test:ident)+ }) => {
        mod $model {
            $(
                #[test]
                fn $test() {
                    super::$test::<crate::$model::Case>();
                }
            )+
        }
    };
}
pub(crate) use over_models;
