//! `Display` and `Error` of the error types.

use core::{error::Error, fmt};

use virtio_spec::DeviceStatus;

use super::{Area, DeviceError, DriverFault, Frozen, HostFault, Refusal};

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Descriptor => "descriptor area",
            Self::Driver => "driver area",
            Self::Device => "device area",
        })
    }
}

impl fmt::Display for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QueueReady => "QueueReady is 1",
            Self::Live => "the device is live and the queue was not reset",
            Self::Suspended => "the device is suspended",
            Self::Failed => "the driver has set FAILED",
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchRegister { offset } => {
                write!(f, "there is no register at offset {offset:#x}")
            }
            Self::BadWidth { offset, width } => write!(
                f,
                "an access of {width} bytes at offset {offset:#x} has the wrong width or alignment"
            ),
            Self::WriteOnly { offset } => {
                write!(f, "the register at offset {offset:#x} is write-only")
            }
            Self::ReadOnly { offset } => {
                write!(f, "the register at offset {offset:#x} is read-only")
            }
            Self::OutsideConfig { offset, width } => write!(
                f,
                "the configuration space ends before an access of {width} bytes at offset {offset:#x}"
            ),
            Self::ConfigReadOnly { offset, width } => write!(
                f,
                "the configuration space cannot be written at offset {offset:#x} with {width} bytes now"
            ),
            Self::BadValue { offset, value } => write!(
                f,
                "the value {value:#x} is not defined for the register at offset {offset:#x}"
            ),
            Self::StatusBitsCleared { missing } => {
                f.write_str("the write to Status would clear ")?;
                bitflags::parser::to_writer(&DeviceStatus::from_bits_retain(*missing), &mut *f)?;
                f.write_str(", which only a reset may clear")
            }
            Self::FeaturesFixed => f.write_str("features were written after FEATURES_OK"),
            Self::FeaturesMissing { missing } => {
                write!(f, "the driver did not accept required features: {missing}")
            }
            Self::FeaturesNotOffered { not_offered } if not_offered.is_empty() => {
                f.write_str("the driver accepted features that were not offered: bits from 128 up")
            }
            Self::FeaturesNotOffered { not_offered } => write!(
                f,
                "the driver accepted features that were not offered: {not_offered}"
            ),
            Self::FeaturesDeclined => {
                f.write_str("the device declined the features that the driver accepted")
            }
            Self::FeaturesNotNegotiated => f.write_str("DRIVER_OK was written without FEATURES_OK"),
            Self::WrongPhase => f.write_str("the device is in a phase that does not allow the operation"),
            Self::NoSuchQueue { queue } => write!(f, "there is no queue {queue}"),
            Self::QueueExists { queue } => write!(f, "queue {queue} is already configured"),
            Self::QueueNotReady { queue } => write!(f, "queue {queue} is not ready"),
            Self::QueueTaken { queue } => {
                write!(f, "queue {queue} is taken and was not put back")
            }
            Self::QueueBusy { queue } => write!(f, "queue {queue} has pending chains"),
            Self::QueueFrozen { queue, why } => {
                write!(f, "queue {queue} cannot be set up: {why}")
            }
            Self::QueueSize { queue, size, max } => {
                if *size == 0 {
                    write!(f, "queue {queue}: the size is 0")
                } else if *size > u32::from(*max) {
                    write!(
                        f,
                        "queue {queue}: size {size} is above the maximum of {max}"
                    )
                } else {
                    write!(f, "queue {queue}: size {size} is not a power of two")
                }
            }
            Self::Misaligned { queue, area, start } => {
                // A split queue's driver area is aligned to 2 bytes, a packed one's to 4.
                let align: u64 = match area {
                    Area::Descriptor => 16,
                    Area::Driver if start & 1 != 0 => 2,
                    Area::Driver | Area::Device => 4,
                };
                write!(f, "queue {queue}: {area} at {start:#x} is not aligned ")?;
                if start & align.wrapping_sub(1) == 0 {
                    f.write_str("in host memory")
                } else {
                    write!(f, "to {align} bytes")
                }
            }
            Self::Wraps { queue, area, start } => write!(
                f,
                "queue {queue}: {area} at {start:#x} runs past the end of the address space"
            ),
            Self::Unmapped {
                queue,
                area,
                start,
                len,
            } => write!(
                f,
                "queue {queue}: {area} of {len} bytes at {start:#x} is not mapped in one piece \
                 with the required access"
            ),
            Self::Overlap { queue, area, with } if queue == with => {
                write!(
                    f,
                    "queue {queue}: {area} overlaps another area of the queue"
                )
            }
            Self::Overlap { queue, area, with } => {
                write!(f, "queue {queue}: {area} overlaps an area of queue {with}")
            }
            Self::BadPosition { queue } => {
                write!(f, "queue {queue} cannot start at these positions")
            }
            Self::QueueCheck { queue } => {
                write!(f, "the queue check of the device refuses queue {queue}")
            },
            Self::QueueSet => {
                f.write_str("the queue check of the device refuses this set of queues")
            },
            Self::NotNegotiated => {
                f.write_str("the capability was not negotiated or is not implemented")
            }
            Self::NotReady => f.write_str(
                "the device did not start, because a queue or the start was refused or a reset is required",
            ),
            Self::OutOfOrder { head } => write!(
                f,
                "chain {head} is not the oldest in flight, which IN_ORDER requires"
            ),
            Self::StaleToken => f.write_str("the chain of the token is no longer in flight"),
            Self::StaleTicket => {
                f.write_str("the ticket does not belong to the outstanding access")
            },
        }
    }
}

impl Error for Refusal {}

impl fmt::Display for DriverFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AvailIndexJump { idx, next } => write!(
                f,
                "the available index advanced from {next} to {idx}, by more than the queue size"
            ),
            Self::HeadOutOfRange { head } => write!(
                f,
                "the available ring names descriptor {head}, which the queue does not have"
            ),
            Self::HeadInFlight { head } => {
                write!(f, "chain {head} was made available while it was in flight")
            }
            Self::NextOutOfRange { next } => write!(
                f,
                "a descriptor links to descriptor {next}, which its table does not have"
            ),
            Self::ChainTooLong { head } => {
                write!(f, "chain {head} is longer than the largest queue, or loops")
            }
            Self::ReadableAfterWritable { head } => write!(
                f,
                "chain {head} has a readable descriptor after a writable one"
            ),
            Self::LengthOverflow { head } => {
                write!(
                    f,
                    "the lengths of chain {head} add up to more than 2^32 bytes"
                )
            }
            Self::BufferUnmapped {
                addr,
                len,
                writable,
            } => {
                let access = if *writable { "writing" } else { "reading" };
                write!(
                    f,
                    "the buffer of {len} bytes at {addr:#x} is not mapped for {access}"
                )
            }
            Self::IndirectNotNegotiated { head } => write!(
                f,
                "chain {head} has an indirect table, but INDIRECT_DESC was not negotiated"
            ),
            Self::IndirectWithNext { head } => write!(
                f,
                "chain {head} has a descriptor with both INDIRECT and NEXT"
            ),
            Self::IndirectNested { head } => {
                write!(f, "chain {head} has an indirect table inside another")
            }
            Self::IndirectLength { len } => write!(
                f,
                "an indirect table of {len} bytes is empty, too long, or not a whole number of descriptors"
            ),
            Self::BadRequest { head } => write!(
                f,
                "the request of chain {head} lacks its header or room for the answer"
            ),
        }
    }
}

impl Error for DriverFault {}

impl fmt::Display for HostFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backend => f.write_str("the back end reported an error"),
            Self::WrittenTooMuch { written, writable } => write!(
                f,
                "the model reported {written} written bytes for a chain of {writable} writable bytes"
            ),
            Self::MemoryGone { addr } => {
                write!(f, "the memory at {addr:#x} is no longer mapped")
            }
            Self::RingGone { queue } => {
                write!(f, "queue {queue}: the memory of a ring is no longer mapped")
            }
        }
    }
}

impl Error for HostFault {}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidQueue(queue) => {
                write!(f, "the operation is not possible on queue {queue}")
            }
            Self::BadQueueConfig(queue, _) => {
                write!(f, "the configuration of queue {queue} was refused")
            }
            Self::UnexpectedMessage(message) => write!(f, "unexpected message: {message}"),
            Self::UnexpectedEndOfStream => {
                f.write_str("the stream ended before the device was ready")
            }
            Self::Refused(_) => f.write_str("the request of the driver was refused"),
            Self::Driver(_) => f.write_str("the driver broke the protocol"),
            Self::Host(_) => f.write_str("the host failed"),
        }
    }
}

impl Error for DeviceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::BadQueueConfig(_, refusal) | Self::Refused(refusal) => Some(refusal),
            Self::Driver(fault) => Some(fault),
            Self::Host(fault) => Some(fault),
            Self::InvalidQueue(_) | Self::UnexpectedMessage(_) | Self::UnexpectedEndOfStream => {
                None
            }
        }
    }
}
