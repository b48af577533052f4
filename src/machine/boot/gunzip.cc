#include "machine/boot/gunzip.h"

#define ZLIB_CONST
#include <zlib.h>

#include <algorithm>
#include <limits>

namespace vmhost::machine::boot {

namespace {

struct Inflater {
    z_stream stream{};
    bool ready = false;
    // 16 + window bits: a gzip header is required and its checksum is verified.
    Inflater() { ready = inflateInit2(&stream, 16 + MAX_WBITS) == Z_OK; }
    ~Inflater() {
        if (ready)
            inflateEnd(&stream);
    }
};

} // namespace

bool is_gzip(Bytes image) {
    return image.size() >= 2 && image[0] == 0x1f && image[1] == 0x8b;
}

Result<std::vector<std::uint8_t>> gunzip(Bytes image, std::uint64_t limit_bytes) {
    Inflater inflater;
    if (!inflater.ready)
        return fail(ErrorKind::internal, "cannot set up zlib");
    if (image.size() > std::numeric_limits<uInt>::max())
        return fail(ErrorKind::limit, "is larger than 4G");
    z_stream& stream = inflater.stream;
    stream.next_in = image.data();
    stream.avail_in = static_cast<uInt>(image.size());

    std::vector<std::uint8_t> out;
    // Room for one byte more than allowed tells "exactly the limit" from "more".
    const std::uint64_t most = limit_bytes + 1;
    std::size_t filled = 0;
    for (;;) {
        if (filled == out.size()) {
            if (filled == most)
                return fail(ErrorKind::limit, "unpacks to more than {}M", limit_bytes / MiB);
            out.resize(std::min<std::uint64_t>(most, std::max<std::size_t>(out.size() * 2, MiB)));
        }
        auto room = std::min<std::size_t>(out.size() - filled, 1U << 30);
        stream.next_out = out.data() + filled;
        stream.avail_out = static_cast<uInt>(room);
        int status = inflate(&stream, Z_NO_FLUSH);
        filled += room - stream.avail_out;
        if (status == Z_STREAM_END)
            break;
        if (status == Z_OK || (status == Z_BUF_ERROR && stream.avail_out == 0))
            continue;
        if (status == Z_BUF_ERROR)
            return fail(ErrorKind::corrupt,
                        "gzip data ends early after {} unpacked bytes "
                        "(truncated?)",
                        filled);
        return fail(ErrorKind::corrupt, "gzip data is damaged after {} unpacked bytes ({})", filled,
                    stream.msg ? stream.msg : "no memory");
    }
    if (filled > limit_bytes)
        return fail(ErrorKind::limit, "unpacks to more than {}M", limit_bytes / MiB);
    out.resize(filled);
    return out;
}

} // namespace vmhost::machine::boot
