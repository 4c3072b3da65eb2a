//! The text of every error.

use core::error::Error;
use std::string::ToString;

use super::*;
use crate::{memory::MemFault, message::QueueConfig, snapshot::SnapshotError};

/// Checks the text of each value. Fails to compile if a variant is missing from the table.
macro_rules! texts {
    ($type:ident { $($value:expr => $text:expr,)* } for $($variant:pat,)*) => {
        #[deny(unreachable_patterns)]
        fn is_in_the_table(error: &$type) {
            use $type::*;
            match error { $($variant => {})* }
        }
        use $type::*;
        for (error, text) in [$(($value, $text)),*] {
            is_in_the_table(&error);
            assert_eq!(error.to_string(), text);
        }
    };
}

#[test]
fn refusals_are_sentences_with_values() {
    let (queue, offset, width) = (3, 0x104, 2);
    let (area, start, max) = (Area::Driver, 0x201, 16);
    texts!(Refusal {
        NoSuchRegister { offset: 0xf4 } => "there is no register at offset 0xf4",
        BadWidth { offset, width: 3 } =>
            "an access of 3 bytes at offset 0x104 has the wrong width or alignment",
        WriteOnly { offset: 0x50 } => "the register at offset 0x50 is write-only",
        ReadOnly { offset: 0x60 } => "the register at offset 0x60 is read-only",
        OutsideConfig { offset, width } =>
            "the configuration space ends before an access of 2 bytes at offset 0x104",
        ConfigReadOnly { offset, width } =>
            "the configuration space cannot be written at offset 0x104 with 2 bytes now",
        BadValue { offset: 0x44, value: 7 } =>
            "the value 0x7 is not defined for the register at offset 0x44",
        StatusBitsCleared { missing: 3 } =>
            "the write to Status would clear ACKNOWLEDGE | DRIVER, which only a reset may clear",
        FeaturesFixed => "features were written after FEATURES_OK",
        FeaturesMissing { missing: Features::VERSION_1 } =>
            "the driver did not accept required features: VERSION_1",
        FeaturesNotOffered { not_offered: Features::from_bits(1 << 37 | 2) } =>
            "the driver accepted features that were not offered: bit 1, bit 37",
        FeaturesNotOffered { not_offered: Features::empty() } =>
            "the driver accepted features that were not offered: bits from 128 up",
        FeaturesDeclined =>
            "the device declined the features that the driver accepted",
        FeaturesNotNegotiated => "DRIVER_OK was written without FEATURES_OK",
        WrongPhase => "the device is in a phase that does not allow the operation",
        NoSuchQueue { queue: 0x1_0007 } => "there is no queue 65543",
        QueueExists { queue } => "queue 3 is already configured",
        QueueNotReady { queue } => "queue 3 is not ready",
        QueueTaken { queue } => "queue 3 is taken and was not put back",
        QueueBusy { queue } => "queue 3 has pending chains",
        QueueFrozen { queue, why: Frozen::QueueReady } =>
            "queue 3 cannot be set up: QueueReady is 1",
        QueueFrozen { queue, why: Frozen::Live } =>
            "queue 3 cannot be set up: the device is live and the queue was not reset",
        QueueFrozen { queue, why: Frozen::Suspended } =>
            "queue 3 cannot be set up: the device is suspended",
        QueueFrozen { queue, why: Frozen::Failed } =>
            "queue 3 cannot be set up: the driver has set FAILED",
        QueueSize { queue, size: 0, max } => "queue 3: the size is 0",
        QueueSize { queue, size: 32, max } => "queue 3: size 32 is above the maximum of 16",
        QueueSize { queue, size: 12, max } => "queue 3: size 12 is not a power of two",
        Misaligned { queue, area: Area::Descriptor, start: 0x208 } =>
            "queue 3: descriptor area at 0x208 is not aligned to 16 bytes",
        Misaligned { queue, area, start } =>
            "queue 3: driver area at 0x201 is not aligned to 2 bytes",
        Misaligned { queue, area, start: 0x202 } =>
            "queue 3: driver area at 0x202 is not aligned to 4 bytes",
        Misaligned { queue, area: Area::Device, start: 0x202 } =>
            "queue 3: device area at 0x202 is not aligned to 4 bytes",
        Misaligned { queue, area: Area::Device, start: 0x200 } =>
            "queue 3: device area at 0x200 is not aligned in host memory",
        Wraps { queue, area, start } =>
            "queue 3: driver area at 0x201 runs past the end of the address space",
        Unmapped { queue, area, start, len: 38 } =>
            "queue 3: driver area of 38 bytes at 0x201 is not mapped in one piece with the \
             required access",
        Overlap { queue, area, with: 3 } =>
            "queue 3: driver area overlaps another area of the queue",
        Overlap { queue, area, with: 1 } => "queue 3: driver area overlaps an area of queue 1",
        BadPosition { queue } => "queue 3 cannot start at these positions",
        QueueCheck { queue } => "the queue check of the device refuses queue 3",
        QueueSet => "the queue check of the device refuses this set of queues",
        NotNegotiated => "the capability was not negotiated or is not implemented",
        NotReady =>
            "the device did not start, because a queue or the start was refused or a reset is \
             required",
        OutOfOrder { head: 9 } =>
            "chain 9 is not the oldest in flight, which IN_ORDER requires",
        StaleToken => "the chain of the token is no longer in flight",
        StaleTicket => "the ticket does not belong to the outstanding access",
    } for
        NoSuchRegister { .. }, BadWidth { .. }, WriteOnly { .. }, ReadOnly { .. },
        OutsideConfig { .. }, ConfigReadOnly { .. }, BadValue { .. }, StatusBitsCleared { .. },
        FeaturesFixed, FeaturesMissing { .. }, FeaturesNotOffered { .. }, FeaturesDeclined,
        FeaturesNotNegotiated, WrongPhase, NoSuchQueue { .. }, QueueExists { .. },
        QueueNotReady { .. }, QueueTaken { .. }, QueueBusy { .. }, QueueFrozen { .. },
        QueueSize { .. }, Misaligned { .. }, Wraps { .. }, Unmapped { .. }, Overlap { .. },
        BadPosition { .. }, QueueCheck { .. }, QueueSet, NotNegotiated, NotReady, OutOfOrder { .. }, StaleToken, StaleTicket,
    );
}

#[test]
fn driver_faults_are_sentences_with_values() {
    let head = 9;
    texts!(DriverFault {
        AvailIndexJump { idx: 40, next: 7 } =>
            "the available index advanced from 7 to 40, by more than the queue size",
        HeadOutOfRange { head: 77 } =>
            "the available ring names descriptor 77, which the queue does not have",
        HeadInFlight { head } => "chain 9 was made available while it was in flight",
        NextOutOfRange { next: 99 } =>
            "a descriptor links to descriptor 99, which its table does not have",
        ChainTooLong { head } => "chain 9 is longer than the largest queue, or loops",
        ReadableAfterWritable { head } =>
            "chain 9 has a readable descriptor after a writable one",
        LengthOverflow { head } => "the lengths of chain 9 add up to more than 2^32 bytes",
        BufferUnmapped { addr: 0x8000, len: 64, writable: false } =>
            "the buffer of 64 bytes at 0x8000 is not mapped for reading",
        BufferUnmapped { addr: 0x8000, len: 64, writable: true } =>
            "the buffer of 64 bytes at 0x8000 is not mapped for writing",
        IndirectNotNegotiated { head } =>
            "chain 9 has an indirect table, but INDIRECT_DESC was not negotiated",
        IndirectWithNext { head } =>
            "chain 9 has a descriptor with both INDIRECT and NEXT",
        IndirectNested { head } => "chain 9 has an indirect table inside another",
        IndirectLength { len: 17 } =>
            "an indirect table of 17 bytes is empty, too long, or not a whole number of descriptors",
        BadRequest { head } =>
            "the request of chain 9 lacks its header or room for the answer",
    } for
        AvailIndexJump { .. }, HeadOutOfRange { .. }, HeadInFlight { .. }, NextOutOfRange { .. },
        ChainTooLong { .. }, ReadableAfterWritable { .. }, LengthOverflow { .. },
        BufferUnmapped { .. }, IndirectNotNegotiated { .. }, IndirectWithNext { .. },
        IndirectNested { .. }, IndirectLength { .. }, BadRequest { .. },
    );
}

#[test]
fn host_faults_are_sentences_with_values() {
    texts!(HostFault {
        Backend => "the back end reported an error",
        WrittenTooMuch { written: 9, writable: 8 } =>
            "the model reported 9 written bytes for a chain of 8 writable bytes",
        MemoryGone { addr: 0x8000 } => "the memory at 0x8000 is no longer mapped",
        RingGone { queue: 3 } => "queue 3: the memory of a ring is no longer mapped",
    } for Backend, WrittenTooMuch { .. }, MemoryGone { .. }, RingGone { .. },);
}

#[test]
fn device_errors_are_sentences_with_a_source() {
    let refusal = Refusal::QueueBusy { queue: 3 };
    let fault = DriverFault::HeadInFlight { head: 9 };
    let config = QueueConfig {
        queue: 3,
        ..Default::default()
    };
    texts!(DeviceError {
        InvalidQueue(3) => "the operation is not possible on queue 3",
        BadQueueConfig(3, refusal) => "the configuration of queue 3 was refused",
        UnexpectedMessage(Message::ConfigureQueue(config)) =>
            "unexpected message: configure queue 3",
        UnexpectedMessage(Message::ResetQueue(3)) =>
            "unexpected message: reset queue 3",
        UnexpectedMessage(Message::Ready { features: Features::VERSION_1 }) =>
            "unexpected message: ready with features VERSION_1",
        UnexpectedMessage(Message::NotifyQueue(3)) =>
            "unexpected message: notify queue 3",
        UnexpectedMessage(Message::Suspend) => "unexpected message: suspend",
        UnexpectedMessage(Message::Resume) => "unexpected message: resume",
        UnexpectedMessage(Message::Reset) => "unexpected message: reset",
        UnexpectedEndOfStream => "the stream ended before the device was ready",
        Refused(refusal) => "the request of the driver was refused",
        Driver(fault) => "the driver broke the protocol",
        Host(HostFault::Backend) => "the host failed",
    } for
        InvalidQueue(_), BadQueueConfig(..), UnexpectedMessage(_), UnexpectedEndOfStream,
        Refused(_), Driver(_), Host(_),
    );
    for (error, source) in [
        (BadQueueConfig(3, refusal), Some(refusal.to_string())),
        (Refused(refusal), Some(refusal.to_string())),
        (Driver(fault), Some(fault.to_string())),
        (
            Host(HostFault::Backend),
            Some(HostFault::Backend.to_string()),
        ),
        (InvalidQueue(3), None),
        (UnexpectedEndOfStream, None),
        (UnexpectedMessage(Message::Reset), None),
    ] {
        assert_eq!(error.source().map(ToString::to_string), source);
    }
}

#[test]
fn snapshot_errors_are_sentences_with_a_source() {
    let why = Refusal::QueueCheck { queue: 3 };
    texts!(SnapshotError {
        Version { version: 9 } => "the snapshot has the unknown version 9",
        NotInReset => "the device is not in reset, or its model is busy",
        Status =>
            "the bits of Status or InterruptStatus contradict each other or the rest of the \
             snapshot",
        Features => "the features in the snapshot do not match the offer",
        Queue { queue: 3, why } => "the registers of queue 3 in the snapshot were refused",
        Queues { why } => "the set of queues in the snapshot was refused",
        Positions { queue: 3 } =>
            "the positions of queue 3 contradict each other, its size, or its chains",
        Chain { at: 2 } => "chain 2 of the snapshot cannot come from its queue",
        NoRoom => "the snapshot has more chains than there are chain slots",
        Model { at: 1 } =>
            "no driver can bring the model into the state of line or port 1 in the snapshot",
        Backend { at: 1 } =>
            "the back end of line 1 cannot be put into the state of the snapshot",
    } for
        Version { .. }, NotInReset, Status, Features, Queue { .. }, Queues { .. }, Positions { .. },
        Chain { .. }, NoRoom, Model { .. }, Backend { .. },
    );
    for error in [Queue { queue: 3, why }, Queues { why }] {
        let source = error.source().map(ToString::to_string);
        assert_eq!(
            source.as_deref(),
            Some("the queue check of the device refuses queue 3")
        );
    }
    assert!(NoRoom.source().is_none());
}

#[test]
fn memory_faults_are_sentences() {
    texts!(MemFault {
        Unmapped => "not all of the range is mapped",
        Denied => "the range does not allow this access",
        Misaligned => "the range is less aligned in the host than in the driver's address space",
    } for Unmapped, Denied, Misaligned,);
}

#[test]
fn errors_of_models_are_sentences() {
    use crate::models::{BlockError, ConsoleError, EntropyError};
    {
        texts!(BlockError {
            Io => "the block back end failed to execute the request",
            Unsupported => "the block back end does not support the request",
            NotReady => "the block back end is not ready for the request",
        } for Io, Unsupported, NotReady,);
    }
    {
        texts!(ConsoleError {
            NotReady => "the console port is not ready",
            Failed => "the console port failed",
        } for NotReady, Failed,);
    }
    {
        texts!(EntropyError {
            NotReady => "the entropy source has no bytes ready",
            Failed => "the entropy source failed",
        } for NotReady, Failed,);
    }
}

#[cfg(feature = "embedded-hal")]
#[test]
fn errors_of_buses_and_lines_are_sentences() {
    use crate::models::{GpioError, gpio::NameError, spi::SpiError};
    {
        texts!(GpioError {
            Unsupported => "the gpio line does not support the operation",
            Failed => "the gpio line failed",
        } for Unsupported, Failed,);
    }
    {
        texts!(NameError {
            NotAscii { line: 3 } =>
                "the name of line 3 is not 7-bit ASCII or contains a zero byte",
            Twice { line: 3 } => "line 3 has the same name as an earlier line",
        } for NotAscii { .. }, Twice { .. },);
    }
    {
        texts!(SpiError {
            Unsupported =>
                "the spi controller does not support this combination of transfer settings",
            Failed => "the spi bus or a pin failed",
        } for Unsupported, Failed,);
    }
}
