// Frames as bytes, and bytes as frames (see ipc.h for the layout).
//
// A hostile length is refused before anything is stored for it; the buffer never
// holds more than one frame and one read. Linux ends a read at the bytes that
// carried descriptors, so descriptors that wait always belong to the frame that
// is being put together, or to complete ones in front of it.

#include "ipc/ipc.h"

namespace vmhost::ipc {

namespace {

struct Head {
    std::uint32_t magic;
    std::uint32_t length;
    std::uint16_t type;
    std::uint16_t fd_count;
};

Head read_head(Bytes bytes) {
    ByteReader reader(bytes);
    Head head{};
    head.magic = reader.le<std::uint32_t>();
    head.length = reader.le<std::uint32_t>();
    head.type = reader.le<std::uint16_t>();
    head.fd_count = reader.le<std::uint16_t>();
    return head;
}

Result<void> check_head(const Head& head, const FrameLimits& allowed) {
    if (head.magic != frame_magic)
        return fail(ErrorKind::corrupt, "ipc: the peer sent {:#010x} where a frame begins",
                    head.magic);
    if (head.length > allowed.payload_bytes)
        return fail(ErrorKind::limit, "ipc: frame of type {} has {} bytes, the limit is {}",
                    head.type, head.length, allowed.payload_bytes);
    if (head.fd_count > allowed.fds)
        return fail(ErrorKind::limit, "ipc: frame of type {} has {} descriptors, the limit is {}",
                    head.type, head.fd_count, allowed.fds);
    return {};
}

} // namespace

std::vector<std::uint8_t> frame_bytes(const Frame& frame) {
    ByteWriter writer;
    writer.buffer().reserve(frame_head_bytes + frame.payload.size());
    writer.le(frame_magic);
    writer.le(static_cast<std::uint32_t>(frame.payload.size()));
    writer.le(frame.type);
    writer.le(static_cast<std::uint16_t>(frame.fds.size()));
    writer.bytes(frame.payload);
    return writer.take();
}

Result<std::vector<Frame>> FrameReader::feed(Bytes bytes, std::vector<Fd> fds) {
    if (broken_)
        return fail(ErrorKind::corrupt, "ipc: the peer broke the framing before");
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
    for (auto& fd : fds)
        fds_.push_back(std::move(fd));
    auto frames = take_frames();
    if (!frames) {
        broken_ = true;
        buffer_.clear();
        fds_.clear();
    }
    return frames;
}

Result<std::vector<Frame>> FrameReader::take_frames() {
    std::vector<Frame> frames;
    std::size_t taken_bytes = 0;
    while (buffer_.size() - taken_bytes >= frame_head_bytes) {
        auto rest = Bytes(buffer_).subspan(taken_bytes);
        const Head head = read_head(rest);
        TRY(check_head(head, limits_));
        if (rest.size() - frame_head_bytes < head.length)
            break;
        if (fds_.size() < head.fd_count)
            return fail(ErrorKind::corrupt,
                        "ipc: frame of type {} announces {} descriptors, {} came with it",
                        head.type, head.fd_count, fds_.size());
        auto payload = rest.subspan(frame_head_bytes, head.length);
        Frame frame{head.type, {payload.begin(), payload.end()}, {}};
        auto last_fd = fds_.begin() + head.fd_count;
        frame.fds.assign(std::make_move_iterator(fds_.begin()), std::make_move_iterator(last_fd));
        fds_.erase(fds_.begin(), last_fd);
        frames.push_back(std::move(frame));
        taken_bytes += frame_head_bytes + head.length;
    }
    buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(taken_bytes));
    TRY(check_descriptors_of_rest());
    return frames;
}

Result<void> FrameReader::check_descriptors_of_rest() const {
    std::size_t expected = 0;
    if (buffer_.size() >= frame_head_bytes)
        expected = read_head(buffer_).fd_count;
    else if (!buffer_.empty()) // not yet known how many
        expected = std::min(fds_.size(), limits_.fds);
    if (fds_.size() != expected)
        return fail(ErrorKind::corrupt, "ipc: {} descriptors came where {} were announced",
                    fds_.size(), expected);
    return {};
}

} // namespace vmhost::ipc
