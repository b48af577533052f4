// The door of ipc/: how the processes of one vmhost talk to each other.
//
// Frames over a Unix stream socket, in both directions:
//
//   u32 magic   u32 payload length   u16 type   u16 descriptor count   payload
//
// little-endian, no padding. A frame's descriptors travel as SCM_RIGHTS with its
// first byte, so they are there before the frame is complete. A process that
// breaks these rules is cut off: no frame of it is worth guessing at, and the
// descriptors it sent are closed.
//
// Which types exist, and what their payloads mean, is not decided here: codec.h
// turns structs into frames and back.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <sys/types.h>
#include <vector>

#include "ipc/shared_ring.h"
#include "loop/loop.h"

namespace vmhost::ipc {

inline constexpr std::uint32_t frame_magic = 0x31484d56; // "VMH1"
inline constexpr std::size_t frame_head_bytes = 12;

struct Frame {
    std::uint16_t type = 0;
    std::vector<std::uint8_t> payload;
    std::vector<Fd> fds;
};

// The bytes of a frame as they go out.
std::vector<std::uint8_t> frame_bytes(const Frame& frame);

// What one frame from a peer may hold; a client of ours gets less than a role.
struct FrameLimits {
    std::size_t payload_bytes = limits::max_frame_bytes;
    std::size_t fds = limits::max_frame_fds;
};

// Puts frames together from what was received, in whatever pieces it came.
// Knows nothing of sockets.
class FrameReader {
public:
    FrameReader() = default;
    explicit FrameReader(FrameLimits allowed) : limits_(allowed) {}
    // The frames that are complete now. After an error every further call fails.
    Result<std::vector<Frame>> feed(Bytes bytes, std::vector<Fd> fds);
    // True between two frames: the peer may close without losing anything.
    bool between_frames() const { return buffer_.empty(); }

private:
    Result<std::vector<Frame>> take_frames();
    Result<void> check_descriptors_of_rest() const;

    FrameLimits limits_;
    std::vector<std::uint8_t> buffer_;
    std::vector<Fd> fds_; // in order of arrival, for the frames not yet complete
    bool broken_ = false;
};

// Who is in more groups than this counts as being in none of them.
inline constexpr std::size_t max_peer_groups = 1024;

// Who held the other end when it connected (SO_PEERCRED, SO_PEERGROUPS in unix(7)).
struct Peer {
    pid_t pid = 0;
    uid_t uid = 0;
    gid_t gid = 0;
    std::vector<gid_t> groups; // supplementary; at most max_peer_groups
};

// One end of a connection on a loop; lives on the loop's thread. It may be
// destroyed in its own callbacks. No callback runs inside send() or
// close_when_sent(): errors are reported from the loop.
class Channel {
public:
    using OnFrame = std::function<void(Frame)>;
    // Once, when nothing can be sent or received any more; no error: the peer closed
    // between two frames, or close_when_sent() is done.
    using OnClose = std::function<void(std::optional<Error>)>;

    // receive_limits bound what the peer may send.
    Channel(Loop& loop, Fd socket, OnFrame on_frame, OnClose on_close,
            FrameLimits receive_limits = {});
    ~Channel(); // what is still queued is lost
    Channel(const Channel&) = delete;
    Channel& operator=(const Channel&) = delete;

    // Never blocks. What does not fit into the socket waits, up to
    // limits::max_queued_bytes; a peer that lets more pile up is cut off.
    void send(Frame frame);
    std::size_t queued_bytes() const;
    Result<Peer> peer() const;
    // Sends what is queued, then closes. Frames that still arrive are dropped.
    void close_when_sent();

private:
    struct State;
    std::shared_ptr<State> state_;
};

} // namespace vmhost::ipc
