//! The messages of a front end.

use std::{fs::File, os::fd::AsRawFd};

use vhost::vhost_user::{
    Backend, Error, GpuBackend, Result, VhostUserBackendReqHandlerMut,
    message::{
        VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags,
        VhostUserInflight, VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures,
        VhostUserShMemConfig, VhostUserSharedMsg, VhostUserSingleMemoryRegion,
        VhostUserVirtioFeatures, VhostUserVringAddrFlags, VhostUserVringState,
    },
};
use virtside::{DeviceModel, DriverNotify, Features};
use vmm_sys_util::epoll::{ControlOperation, EpollEvent, EventSet};

use super::{
    dirty::LOG_ALL,
    inflight::{self, Inflight},
    memory::Regions,
    session::{Session, numbers},
};

/// Most regions of memory.
const MEMORY_SLOTS: usize = 509;

const PROTOCOL: VhostUserProtocolFeatures = VhostUserProtocolFeatures::MQ
    .union(VhostUserProtocolFeatures::REPLY_ACK)
    .union(VhostUserProtocolFeatures::BACKEND_REQ)
    .union(VhostUserProtocolFeatures::CONFIG)
    .union(VhostUserProtocolFeatures::RESET_DEVICE)
    .union(VhostUserProtocolFeatures::INFLIGHT_SHMFD)
    .union(VhostUserProtocolFeatures::LOG_SHMFD)
    .union(VhostUserProtocolFeatures::STATUS)
    .union(VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS);

/// The answer to messages of protocol features that are not offered.
fn not_offered<T>() -> Result<T> {
    Err(Error::InvalidOperation("not offered"))
}

impl<D: DeviceModel, const Q: usize, const N: usize> VhostUserBackendReqHandlerMut
    for Session<'_, D, Q, N>
{
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.end();
        Ok(())
    }

    fn reset_device(&mut self) -> Result<()> {
        self.end();
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        let offered = self.offered();
        let [low, high] = [0, 1].map(|word| u64::from(offered.word(word)));
        let own = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() | LOG_ALL;
        Ok(high << 32 | low | own)
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        self.enables = features & protocol != 0;
        self.dirty.set_on(features & LOG_ALL != 0);
        let features = Features::from_bits((features & !(protocol | LOG_ALL)).into());
        if self.rings.iter().any(|ring| ring.started && ring.enabled) {
            return if features == self.features {
                Ok(())
            } else {
                Err(Error::InvalidOperation("a queue is started"))
            };
        }
        for queue in numbers::<Q>() {
            self.pause(queue);
        }
        let required = Features::REQUIRED.union(self.host.model.required());
        if !self.offered().contains(features) || !features.contains(required) {
            return Err(Error::FeatureMismatch);
        }
        if self.device.take().is_some() {
            self.host.model.reset();
            self.told = false;
        }
        self.go_live(features)?;
        numbers::<Q>().try_for_each(|queue| {
            // Only a queue that the front end has described completely.
            if self.config(queue).is_some() {
                self.start(queue)
            } else {
                Ok(())
            }
        })
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _: Option<bool>,
    ) -> Result<Option<Vec<u64>>> {
        if regions.len() != files.len() {
            return Err(Error::IncorrectFds);
        }
        let mut table = Regions::default();
        for (region, file) in regions.iter().zip(files) {
            table.add(region, file, &self.dirty)?;
        }
        self.regions = table;
        self.memory_changed()?;
        Ok(None)
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        u64::try_from(MEMORY_SLOTS).map_err(|_| Error::BackendInternalError)
    }

    fn add_mem_region(
        &mut self,
        region: &VhostUserSingleMemoryRegion,
        file: File,
        _: Option<bool>,
    ) -> Result<Option<u64>> {
        if self.regions.len() >= MEMORY_SLOTS {
            return Err(Error::InvalidOperation("too many regions"));
        }
        self.regions.add(region, file, &self.dirty)?;
        self.memory_changed()?;
        Ok(None)
    }

    fn remove_mem_region(&mut self, region: &VhostUserSingleMemoryRegion) -> Result<()> {
        self.regions.remove(region)?;
        self.memory_changed()
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        self.free_ring(index)?.size = num;
        Ok(())
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _: u64,
    ) -> Result<()> {
        let areas = [descriptor, available, used];
        // A front end that starts or stops its log says the addresses again.
        if self.ring(index)?.1.areas != areas {
            self.free_ring(index)?.areas = areas;
        }
        Ok(())
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        self.free_ring(index)?.base = base;
        Ok(())
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let (queue, _) = self.ring(index)?;
        Ok(VhostUserVringState::new(index, self.stop(queue)))
    }

    fn set_vring_kick(&mut self, index: u8, kick: Option<File>) -> Result<()> {
        let (queue, _) = self.ring(index.into())?;
        let kick = kick.ok_or(Error::IncorrectFds)?;
        self.forget_kick(queue);
        let wanted = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, queue.into());
        self.epoll
            .ctl(ControlOperation::Add, kick.as_raw_fd(), wanted)
            .map_err(|_| Error::IncorrectFds)?;
        if let Some(ring) = self.rings.get_mut(usize::from(queue)) {
            ring.kick = Some(kick);
        }
        // The earlier descriptor may have had a kick.
        self.kicked(queue);
        self.start(queue)
    }

    fn set_vring_call(&mut self, index: u8, call: Option<File>) -> Result<()> {
        let (queue, _) = self.ring(index.into())?;
        self.calls.set(queue, call);
        if self.is_started(queue) {
            // An interrupt may have gone to no descriptor, or to an earlier one.
            self.calls.used(queue);
        }
        Ok(())
    }

    fn set_vring_err(&mut self, index: u8, _: Option<File>) -> Result<()> {
        self.ring(index.into()).map(|_| ())
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        let (queue, ring) = self.ring(index)?;
        ring.enabled = enable;
        if !ring.started {
            return self.start(queue);
        }
        if !enable {
            self.quiet(queue);
        } else if let Some(device) = &mut self.device {
            device.resume_queue(queue);
        }
        Ok(())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(PROTOCOL)
    }

    fn set_protocol_features(&mut self, features: u64) -> Result<()> {
        if features & !PROTOCOL.bits() == 0 {
            self.protocol = VhostUserProtocolFeatures::from_bits_truncate(features);
            Ok(())
        } else {
            Err(Error::FeatureMismatch)
        }
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(self.queues)
    }

    /// Bytes past the end of the configuration space read 0: a front end may know a longer one.
    fn get_config(&mut self, offset: u32, size: u32, _: VhostUserConfigFlags) -> Result<Vec<u8>> {
        let model = &self.host.model;
        let bytes = (0..size).map(|at| {
            let mut byte = [0];
            let there = offset
                .checked_add(at)
                .is_some_and(|offset| model.read_config(offset, &mut byte));
            if there { byte[0] } else { 0 }
        });
        Ok(bytes.collect())
    }

    fn set_config(&mut self, offset: u32, bytes: &[u8], _: VhostUserConfigFlags) -> Result<()> {
        // A guest's write that the model refuses has no effect.
        self.host.model.write_config(offset, bytes);
        Ok(())
    }

    fn set_backend_req_fd(&mut self, requests: Backend) {
        self.requests = Some(requests);
    }

    fn get_inflight_fd(&mut self, wanted: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        inflight::create::<Q, N>(wanted)
    }

    fn set_inflight_fd(&mut self, given: &VhostUserInflight, file: File) -> Result<()> {
        if numbers::<Q>().any(|queue| self.is_started(queue)) {
            return Err(Error::InvalidOperation("a queue is started"));
        }
        self.record_in(Inflight::over::<N>(given, file)?);
        Ok(())
    }

    fn set_log_base(&mut self, log: &VhostUserLog, file: File) -> Result<()> {
        self.dirty.set_area(log, file)
    }

    fn set_gpu_socket(&mut self, _: GpuBackend) -> Result<()> {
        not_offered()
    }
    fn get_shared_object(&mut self, _: VhostUserSharedMsg) -> Result<File> {
        not_offered()
    }
    fn set_device_state_fd(
        &mut self,
        _: VhostTransferStateDirection,
        _: VhostTransferStatePhase,
        _: File,
    ) -> Result<Option<File>> {
        not_offered()
    }
    fn check_device_state(&mut self) -> Result<()> {
        not_offered()
    }
    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        not_offered()
    }
}
