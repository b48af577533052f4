// Whatever a compressed image says of itself: its table and its frames, read at both ends and
// in the middle. The seed is an image of ours.
#include <cstring>
#include <sys/mman.h>

#include "disk/disk.h"

using namespace vmhost;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Fd file(::memfd_create("fuzz", MFD_CLOEXEC));
    if (!file || ::write(file.get(), data, size) != static_cast<ssize_t>(size))
        return 0;
    auto image = disk::Image::open_zst(std::move(file), "fuzz");
    if (!image)
        return 0;
    std::vector<std::uint8_t> bytes(100'000);
    auto disk_bytes = (*image)->size_bytes();
    for (auto offset :
         {std::uint64_t{0}, disk_bytes / 2, disk_bytes - std::min(disk_bytes, bytes.size())}) {
        iovec vector{bytes.data(), std::min<std::uint64_t>(bytes.size(), disk_bytes - offset)};
        (void)(*image)->readv({&vector, 1}, offset);
    }
    return 0;
}
