// Fetching the sets of a release.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "base/base.h"
#include "sets/download.h"

namespace vmhost::sets {

struct FetchOrder {
    std::string version, arch; // "7.8" or "snapshots"; "amd64"
    std::string mirror;        // "http://…/pub/OpenBSD"
    std::string directory;     // that http/ serves
    std::string keys;          // directory
    bool all = false;          // media to install from too, which are not sets
    Patience patience;
    std::chrono::milliseconds between_tries{limits::fetch_retry_pause_ms};
};

struct FetchProgress {
    std::function<void(const std::string& name)> file; // begins
    // Of that file; kept: they were there already.
    std::function<void(std::uint64_t have, std::uint64_t all)> bytes;
    std::function<void(const Error&)> again; // it failed, and is tried again
};

struct Fetched {
    std::size_t files = 0;
    std::uint64_t bytes = 0;         // of all
    std::uint64_t fetched_bytes = 0; // that came from the mirror
    std::string key;                 // name of what signed them
};

// When it returns, DIRECTORY/VERSION/ARCH holds the files of the mirror's signed list, each
// compared with it; else it is what it was before, and what came is kept for the next call. busy
// when another one fetches the same.
Result<Fetched> fetch_sets(const FetchOrder& order, const FetchProgress& progress);

} // namespace vmhost::sets
