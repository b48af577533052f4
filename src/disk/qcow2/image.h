// The qcow2 room's inner doors.
#pragma once

#include <memory>

#include "disk/disk.h"
#include "disk/qcow2/format.h"
#include "disk/storage.h"

namespace vmhost::disk::qcow2 {

// backing: the image below; must be there when, and only when, the header names one.
Result<std::unique_ptr<Image>> open(std::unique_ptr<Storage> file, std::unique_ptr<Image> backing,
                                    bool read_only);

struct NewImage {
    std::uint64_t size_bytes = 0;
    std::string backing_file; // empty = none
    Format backing_format = Format::qcow2;
    unsigned cluster_bits = 16;
    std::uint32_t version = 3;
};
// Writes an empty image into an empty file.
Result<void> format(Storage& file, const NewImage& image);

} // namespace vmhost::disk::qcow2
