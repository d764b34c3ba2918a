// What a test or the addon may set and read: how launches are checked and scheduled, what the last
// launch did, and faults to inject. Every setting has an environment variable, read once, so that a
// whole test run can be steered from outside:
//   LONGSPAN_EMULATED_CHECKS    on (default) or off: races, uninitialised reads, asynchrony
//   LONGSPAN_EMULATED_SEED      schedule (default 1; 0: threads in order)
//   LONGSPAN_EMULATED_ASYNC     late (default) or random: when bulk copies land
//   LONGSPAN_EMULATED_RESIDENT  blocks that run interleaved (default 2)
//   LONGSPAN_EMULATED_DEVICES   number of devices (default 1)
//   LONGSPAN_EMULATED_MEMORY    bytes of memory per device (default 4 GiB)
//   LONGSPAN_EMULATED_SMS       multiprocessors a device claims to have (default 4)
//   LONGSPAN_EMULATED_FAIL_LAUNCH  the launch with this number (1 is the first) fails
//   LONGSPAN_EMULATED_LOSE_DEVICE  from the launch with this number on, the device is lost
//   LONGSPAN_EMULATED_SKIP_BARRIER  the __syncthreads with this number (1 is the first that the
//                               process meets in its kernels' code) does nothing; stderr says which
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace longspan::emulator {

struct Settings {
  uint64_t seed = 1;
  bool checks = true;     // off: results only, several times faster
  bool lateAsync = true;  // false: bulk copies land at random times
  int residentBlocks = 2;
  int maxReports = 12;
};

struct LaunchStats {
  uint64_t switches = 0, sharedAccesses = 0, globalAccesses = 0, barriers = 0;
  uint64_t mma = 0, wgmma = 0, ldmatrix = 0;
  uint64_t ldmatrixExtraPhases =
      0;  // bank conflicts: 0 when every 8x16-byte phase was free of them
  double milliseconds = 0;
};

// What the last launch of this thread found and did.
struct LaunchReport {
  std::vector<std::string> errors;
  LaunchStats stats;
  bool clean() const { return errors.empty(); }
  bool mentions(const char* text) const;
};

// Both for the whole process. Changing them between launches is fine.
Settings settings();
void setSettings(const Settings& settings);

const LaunchReport& lastLaunch();
uint64_t launchesSoFar();
// Launches of this process that had errors, for a suite that wants to know none was overlooked.
uint64_t failedLaunches();

// Faults. Launch numbers count from 1 for the next launch; 0 turns the fault off.
void failLaunch(uint64_t number);
void loseDevice(int device);     // every call on it answers cudaErrorECCUncorrectable...
void restoreDevice(int device);  // ...until this, which no real device offers
void setDeviceCount(int count);  // at most 8; 0: as a machine without GPUs
void setDeviceMemory(size_t bytes);

// Bytes of live device memory, over all devices; what a test of leaks compares.
size_t liveDeviceBytes();

}  // namespace longspan::emulator
