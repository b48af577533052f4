// The console of one VM in a file: what the VM process puts into the shared ring,
// written here because that process opens no files and must not fill our disks.
//
// At most bytes_per_s are written in a second. A guest that says more loses what the
// ring does not hold until then, and one line says how much. When a file is full,
// NAME becomes NAME.1, NAME.1 becomes NAME.2, and the oldest goes.
//
// The VM process rings an eventfd when there is output, at most some fifty times a second.
// Bytes are written as the guest sent them, terminal escapes and all.
//
// Loop thread of the parent.
#pragma once

#include <memory>
#include <string>

#include "ipc/ipc.h"
#include "loop/loop.h"

namespace vmhost::host {

class ConsoleLog {
public:
    struct Plan {
        std::string path; // its folder exists
        std::uint64_t file_bytes = 0;
        unsigned files = 1; // with the one that is written to
        std::uint64_t bytes_per_s = 0;
        Fd bell; // of a process that has one already
    };
    // ring outlives the log, which goes on where the last one of the ring was.
    static Result<std::unique_ptr<ConsoleLog>> open(Loop& loop, const ipc::SharedRingReader& ring,
                                                    Plan plan);
    // For the VM process, to ring.
    const Fd& bell() const { return bell_; }
    // The process has ended: writes what is left, up to one second's worth.
    void finish();

private:
    ConsoleLog(Loop& loop, const ipc::SharedRingReader& ring, Plan plan, Fd bell, Fd folder,
               std::string name);
    Result<void> open_file();
    void rang();
    void copy();
    void write(Bytes bytes);
    void rotate();

    Loop& loop_;
    const ipc::SharedRingReader& ring_;
    Plan plan_;
    Fd bell_, folder_, file_;
    std::string name_; // in the folder
    std::uint64_t size_bytes_ = 0;
    std::uint64_t position_ = 0; // in the ring's stream
    std::uint64_t lost_bytes_ = 0;
    std::uint64_t window_start_ms_ = 0, window_bytes_ = 0; // of the current second
    bool failure_logged_ = false;
    std::vector<std::uint8_t> buffer_;
    Timer next_window_;
    Watch watch_;
};

} // namespace vmhost::host
