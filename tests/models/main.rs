//! Properties of every ready-made model, tested over each of them: the same answers over both ring
//! formats and every transport, across a restore and across a suspension; and a reset that makes a
//! device work again after any driver behaviour.
//!
//! [`ModelCase`] says how a model is built and used. The suite with a model's name tests what only
//! that model does.

mod blk;
mod carried;
mod case;
mod changed;
mod config;
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

/// Makes a module for each model named, with a test for each function named. Each function takes a
/// [`ModelCase`].
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
