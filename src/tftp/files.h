// The files that are served: regular ones beneath one directory, which is known by its descriptor
// alone.
//
// A name is what a client asks for: slashes in front do not count, and a component that begins with
// a dot is never served. Symbolic links may lead anywhere beneath the directory when they are
// relative, and nowhere else (openat2(2), RESOLVE_BENEATH).
#pragma once

#include <cstdint>
#include <string_view>

#include "base/base.h"

namespace vmhost::tftp {

struct File {
    Fd fd;
    std::uint64_t size_bytes = 0;
};

// not_found also for names that are none, and for what is no regular file; denied for what this
// process may not read. name may hold anything.
Result<File> open_file(const Fd& directory, std::string_view name);

// At most into.size() bytes from there; fewer only at the end of the file.
Result<std::size_t> read_at(const Fd& file, std::uint64_t offset, MutableBytes into);

} // namespace vmhost::tftp
