// ELF kernels with a PVH note: a byte for the size of the initrd, the image.
#include "fuzz_guest.h"

using namespace vmhost;
using namespace vmhost::machine::boot;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0)
        return 0;
    std::vector<std::uint8_t> initrd(std::size_t{data[0]} << 13, 0x5a);
    Request request;
    request.image = {data + 1, size - 1};
    request.initrd = initrd;
    request.name = "vmlinux";
    request.command_line = std::string(data[0], 'x');
    (void)load_into_small_guest(request);
    return 0;
}
