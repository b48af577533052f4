// Commands of a guest and the hand of a host on the tray, in any order: what the drive lets read is
// on the medium, and no answer is longer than a command can ask for.
#include <cstdlib>

#include "machine/device/cd_drive.h"

using namespace vmhost;
using machine::CdDrive;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    CdDrive drive("fuzz-cd");
    std::uint64_t blocks = 0;
    ByteReader input{Bytes(data, size)};
    while (input.remaining() != 0) {
        auto what = input.le<std::uint8_t>();
        if (what == 0xff) {
            blocks = input.le<std::uint32_t>();
            drive.change_medium(blocks);
            continue;
        }
        if (what == 0xfe) {
            drive.reset();
            continue;
        }
        auto outcome =
            drive.execute(input.bytes(std::min<std::size_t>(what % 33U, input.remaining())));
        bool reads = outcome.block_count != 0;
        if (outcome.data.size() > 65536 || (reads && (outcome.sense || !outcome.data.empty())) ||
            (reads && !range_fits(outcome.first_block, outcome.block_count, blocks)))
            std::abort();
    }
    return 0;
}
