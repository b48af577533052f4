// Console attachment: cu(1)'s escapes on a terminal, plain bytes through pipes.
//
//   ~.  leave    ~#  send BREAK    ~~  send one tilde    ~?  list these
//
// Escapes are known at the beginning of a line, on a terminal only: a script's
// input goes through byte for byte. When a script's input ends, output goes on
// until the guest or the script's patience ends (a closed pipe).
//
// A guest that does not read holds nobody up: what it has not taken waits here, up to a
// bound. Then a script's input is not read any further, and a person's keys are dropped
// (with a bell), so that ~. always works.
#include "cli/console.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "machine/console/frames.h"

namespace vmhost::cli {

using machine::ConsoleFrame;

namespace {

class RawTerminal {
public:
    RawTerminal()
        : active_(::isatty(STDIN_FILENO) == 1 && ::tcgetattr(STDIN_FILENO, &saved_) == 0) {
        if (!active_)
            return;
        termios raw = saved_;
        ::cfmakeraw(&raw);
        ::tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
    }
    ~RawTerminal() {
        if (active_)
            ::tcsetattr(STDIN_FILENO, TCSADRAIN, &saved_);
    }
    bool active() const { return active_; }

private:
    termios saved_{};
    bool active_;
};

bool write_all(int fd, Bytes bytes) {
    while (!bytes.empty()) {
        auto count = ::write(fd, bytes.data(), bytes.size());
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return false;
        bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
    return true;
}

// What waits for a guest that does not read.
constexpr std::size_t max_waiting_bytes = 64 << 10;

volatile std::sig_atomic_t size_changed = 1; // told at the beginning

class Attachment {
public:
    Attachment(Fd socket, bool read_only, bool terminal)
        : socket_(std::move(socket)), read_only_(read_only), terminal_(terminal) {
        (void)set_nonblocking(socket_);
    }

    int run() {
        // A person who only watches must still be able to leave.
        bool input_open = !read_only_ || terminal_;
        for (;;) {
            if (terminal_ && std::exchange(size_changed, 0))
                tell_size();
            bool listen = input_open && (terminal_ || waiting_.size() < max_waiting_bytes);
            pollfd polled[2] = {{socket_.get(),
                                 static_cast<short>(waiting_.empty() ? POLLIN : POLLIN | POLLOUT),
                                 0},
                                {listen ? STDIN_FILENO : -1, POLLIN, 0}};
            if (::poll(polled, 2, -1) < 0) {
                if (errno == EINTR)
                    continue;
                return 1;
            }
            if ((polled[0].revents & POLLOUT) != 0 && !flush())
                return status_;
            if ((polled[0].revents & ~POLLOUT) != 0 && !read_socket())
                return status_;
            if (polled[1].revents != 0 && !read_input(input_open))
                return status_;
        }
    }

private:
    void notice(std::string_view text) {
        std::fprintf(stderr, "%svmctl: %.*s%s\n", terminal_ ? "\r\n" : "",
                     static_cast<int>(text.size()), text.data(), terminal_ ? "\r" : "");
    }

    // false = over.
    bool read_socket() {
        std::uint8_t buffer[16 << 10];
        auto count = ::read(socket_.get(), buffer, sizeof(buffer));
        if (count < 0 && (errno == EINTR || errno == EAGAIN))
            return true;
        if (count <= 0) {
            if (!ended_)
                notice("console closed");
            return false;
        }
        bool output_open = true;
        bool good = reader_.feed(
            {buffer, static_cast<std::size_t>(count)},
            [&](ConsoleFrame kind, Bytes data) { output_open = output_open && took(kind, data); });
        if (!good) {
            notice("the console broke its protocol");
            status_ = 1;
        }
        return good && output_open && !ended_;
    }

    bool took(ConsoleFrame kind, Bytes data) {
        switch (kind) {
        case ConsoleFrame::data:
            return write_all(STDOUT_FILENO, data);
        case ConsoleFrame::notice:
            notice(printable(as_text(data), 400));
            return true;
        case ConsoleFrame::writer:
            if (!read_only_ && !data.empty() && data[0] == 0)
                notice("somebody else is typing: this console is read only for now");
            return true;
        case ConsoleFrame::ended:
            notice("the guest has ended");
            ended_ = true;
            return true;
        case ConsoleFrame::closed:
            ended_ = true;
            status_ = 1;
            return true;
        case ConsoleFrame::line_break:
        case ConsoleFrame::size:
            return true;
        }
        return true;
    }

    void tell_size() {
        winsize size{};
        if (::ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0)
            return;
        std::uint8_t raw[4];
        store_le<std::uint16_t>(raw, size.ws_col);
        store_le<std::uint16_t>(MutableBytes(raw).subspan(2), size.ws_row);
        send(ConsoleFrame::size, raw);
    }

    // false = over.
    bool read_input(bool& input_open) {
        std::uint8_t buffer[4096];
        auto count = ::read(STDIN_FILENO, buffer, sizeof(buffer));
        if (count < 0 && errno == EINTR)
            return true;
        if (count <= 0) {
            input_open = false; // a script has said all; it may still listen
            return !terminal_;
        }
        Bytes typed(buffer, static_cast<std::size_t>(count));
        if (!terminal_)
            return send(ConsoleFrame::data, typed);
        std::vector<std::uint8_t> plain;
        bool stay = true;
        for (std::size_t i = 0; stay && i < typed.size(); ++i)
            stay = type(typed[i], plain);
        return send_plain(plain) && stay;
    }

    bool send_plain(std::vector<std::uint8_t>& plain) {
        auto typed = std::exchange(plain, {});
        return typed.empty() || send(ConsoleFrame::data, typed);
    }

    // One typed byte through the escapes; false = leave.
    bool type(std::uint8_t byte, std::vector<std::uint8_t>& plain) {
        if (escape_) {
            escape_ = false;
            switch (byte) {
            case '.':
                notice("left the console");
                return false;
            case '#':
                return send_plain(plain) && send(ConsoleFrame::line_break, {});
            case '?':
                notice("~. leave  ~# send BREAK  ~~ send ~  ~? this");
                return true;
            case '~':
                break;
            default:
                plain.push_back('~');
            }
        } else if (byte == '~' && line_start_) {
            escape_ = true;
            return true;
        }
        plain.push_back(byte);
        line_start_ = byte == '\r' || byte == '\n';
        return true;
    }

    bool send(ConsoleFrame kind, Bytes data) {
        if (read_only_)
            return true;
        if (waiting_.size() >= max_waiting_bytes) {
            (void)write_all(STDERR_FILENO, as_bytes("\a"));
            return true;
        }
        auto frame = machine::encode_console_frame(kind, data);
        waiting_.insert(waiting_.end(), frame.begin(), frame.end());
        return flush();
    }

    // What the socket takes now; false = the console is gone.
    bool flush() {
        while (!waiting_.empty()) {
            auto count = ::write(socket_.get(), waiting_.data(), waiting_.size());
            if (count < 0 && errno == EINTR)
                continue;
            if (count < 0 && errno == EAGAIN)
                return true;
            if (count <= 0) {
                notice("console closed");
                return false;
            }
            waiting_.erase(waiting_.begin(), waiting_.begin() + count);
        }
        return true;
    }

    Fd socket_;
    bool read_only_;
    bool terminal_;
    bool ended_ = false;
    bool escape_ = false;
    bool line_start_ = true;
    int status_ = 0;
    std::vector<std::uint8_t> waiting_; // frames for the guest
    machine::ConsoleFrameReader reader_;
};

} // namespace

int attach_console(Fd socket, bool read_only) {
    std::signal(SIGPIPE, SIG_IGN);
    struct sigaction resized {};
    resized.sa_handler = [](int) { size_changed = 1; };
    ::sigaction(SIGWINCH, &resized, nullptr); // no SA_RESTART: poll comes back
    RawTerminal raw;
    if (raw.active())
        std::fputs("Connected to the console (~. to leave)\r\n", stderr);
    return Attachment(std::move(socket), read_only, raw.active()).run();
}

} // namespace vmhost::cli
