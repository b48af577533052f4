#include "tftp/server.h"

#include <algorithm>

namespace vmhost::tftp {

std::string_view name_of(Outcome outcome) {
    constexpr std::string_view names[outcomes] = {"sent",    "refused", "malformed", "busy",
                                                  "aborted", "silent",  "failed"};
    return names[static_cast<std::size_t>(outcome)];
}

std::string text(const Event& event) {
    auto line = event.client.address.text();
    if (!event.file.empty())
        line += fmt::format(": \"{}\"", printable(event.file, 100));
    line += fmt::format(": {}", name_of(event.outcome));
    if (event.bytes > 0)
        line += fmt::format(" {} bytes", event.bytes);
    if (!event.detail.empty())
        line += fmt::format(": {}", printable(event.detail, 200));
    return line;
}

void log_event(const Event& event) {
    if (!event.log)
        return;
    if (event.outcome == Outcome::sent)
        log::info("tftp", "{}", text(event));
    else
        log::warning("tftp", "{}", text(event));
}

void Server::tell(Event event, std::uint64_t now_ms) {
    // As for DHCP: a burst of lines, and then one each so often.
    constexpr std::uint64_t cost_ms = limits::dhcp_log_refill_ms;
    log_used_ms_ -= std::min(log_used_ms_, now_ms - std::min(now_ms, log_last_ms_));
    log_last_ms_ = now_ms;
    event.log = log_used_ms_ + cost_ms <= cost_ms * limits::dhcp_log_burst;
    if (event.log)
        log_used_ms_ += cost_ms;
    told_(event);
}

void Server::refuse(const Client& client, ErrorCode code, std::string_view text, Event event,
                    std::uint64_t now_ms) {
    send_(client, build_error(code, text));
    event.client = client;
    if (event.detail.empty())
        event.detail = text;
    tell(std::move(event), now_ms);
}

Server::Transfers::iterator Server::end(Transfers::iterator at, Outcome outcome,
                                        std::uint64_t now_ms, std::string detail) {
    const auto& transfer = at->second;
    Event event{outcome, at->first, transfer.name,
                std::min(transfer.acknowledged * transfer.block_bytes, transfer.file.size_bytes),
                std::move(detail)};
    at = transfers_.erase(at);
    tell(std::move(event), now_ms);
    return at;
}

void Server::handle(const Client& client, Bytes message, std::uint64_t now_ms,
                    std::uint32_t max_block_bytes) {
    ByteReader reader(message);
    auto opcode = static_cast<Opcode>(reader.be<std::uint16_t>());
    auto found = transfers_.find(client);
    switch (opcode) {
    case Opcode::read:
        return read(client, message.subspan(std::min<std::size_t>(2, message.size())), now_ms,
                    max_block_bytes);
    case Opcode::write:
        return refuse(client, ErrorCode::denied, "nothing can be written here", {Outcome::refused},
                      now_ms);
    case Opcode::acknowledgement: {
        auto block = reader.be<std::uint16_t>();
        if (reader.ok() && found != transfers_.end())
            return acknowledge(found, block, now_ms);
        if (reader.ok()) // late, of one that is over: RFC 1350 §4, and no word about it
            return send_(client, build_error(ErrorCode::unknown_transfer, "no such transfer"));
        break;
    }
    case Opcode::error:
        // Never an answer to this one; a ROM that only wanted the size ends this way.
        if (found != transfers_.end())
            end(found, Outcome::aborted, now_ms,
                std::string(as_text(reader.bytes(reader.remaining()))).substr(0, 100));
        return;
    default:
        break;
    }
    tell({Outcome::malformed, client, {}, 0, "no request, and no answer to ours"}, now_ms);
}

void Server::read(const Client& client, Bytes payload, std::uint64_t now_ms,
                  std::uint32_t max_block_bytes) {
    auto request = parse_read_request(payload);
    if (!request)
        return refuse(client, ErrorCode::illegal, request.error(), {Outcome::malformed}, now_ms);
    Event event{Outcome::refused, client, request->file};
    if (request->mode != "octet")
        return refuse(client, ErrorCode::illegal, "only mode octet is served", std::move(event),
                      now_ms);
    transfers_.erase(client); // it did not hear our answer
    auto of_client = std::ranges::count(transfers_, client.address,
                                        [](const auto& one) { return one.first.address; });
    if (transfers_.size() >= limits::max_tftp_transfers ||
        static_cast<std::size_t>(of_client) >= limits::max_tftp_transfers_per_client) {
        event.outcome = Outcome::busy;
        return refuse(client, ErrorCode::undefined, "busy: too many transfers", std::move(event),
                      now_ms);
    }
    auto file = open_file(directory_, request->file);
    if (!file) {
        const bool denied = file.error().kind() == ErrorKind::denied;
        event.detail = file.error().text();
        return refuse(client, denied ? ErrorCode::denied : ErrorCode::not_found,
                      denied ? "access denied" : "file not found", std::move(event), now_ms);
    }
    Transfer transfer;
    transfer.file = *std::move(file);
    transfer.name = request->file.substr(0, limits::max_tftp_name_bytes);
    transfer.began_ms = now_ms;
    Options options;
    if (request->block_bytes) {
        transfer.block_bytes = std::min(*request->block_bytes, max_block_bytes);
        options.emplace_back("blksize", transfer.block_bytes);
    }
    if (request->timeout_s && *request->timeout_s <= limits::max_tftp_timeout_s) {
        transfer.timeout_ms = std::uint64_t{*request->timeout_s} * 1000;
        options.emplace_back("timeout", *request->timeout_s);
    }
    if (request->window_blocks) {
        transfer.window_blocks = std::min(*request->window_blocks, limits::max_tftp_window_blocks);
        options.emplace_back("windowsize", transfer.window_blocks);
    }
    if (request->wants_size)
        options.emplace_back("tsize", transfer.file.size_bytes);
    if (!options.empty())
        transfer.options = build_options(options);
    send_window(transfers_.emplace(client, std::move(transfer)).first, now_ms);
}

bool Server::send_window(Transfers::iterator at, std::uint64_t now_ms) {
    auto& transfer = at->second;
    transfer.sent_ms = now_ms;
    if (!transfer.options.empty()) {
        send_(at->first, transfer.options);
        return true;
    }
    std::vector<std::uint8_t> data(transfer.block_bytes);
    auto last = std::min(transfer.acknowledged + transfer.window_blocks, transfer.blocks());
    for (auto block = transfer.acknowledged + 1; block <= last; ++block) {
        const auto offset = (block - 1) * transfer.block_bytes;
        const auto wanted =
            std::min<std::uint64_t>(transfer.block_bytes, transfer.file.size_bytes - offset);
        auto into = MutableBytes(data).first(static_cast<std::size_t>(wanted));
        auto count = read_at(transfer.file.fd, offset, into);
        if (!count || *count != wanted) {
            send_(at->first, build_error(ErrorCode::undefined, "the file cannot be read"));
            end(at, Outcome::failed, now_ms,
                count ? std::string("it became shorter") : count.error().text());
            return false;
        }
        send_(at->first, build_data(static_cast<std::uint16_t>(block), into));
        transfer.sent = block;
    }
    return true;
}

void Server::acknowledge(Transfers::iterator at, std::uint16_t block, std::uint64_t now_ms) {
    auto& transfer = at->second;
    if (!transfer.options.empty()) {
        if (block != 0)
            return; // of nothing that we sent
        transfer.options.clear();
    } else {
        // Block numbers have 16 bits and begin anew with 0: how far this one is beyond the last.
        const auto beyond =
            static_cast<std::uint16_t>(block - static_cast<std::uint16_t>(transfer.acknowledged));
        if (beyond == 0 || beyond > transfer.sent - transfer.acknowledged)
            return;
        transfer.acknowledged += beyond;
    }
    transfer.tries = 0;
    if (transfer.acknowledged == transfer.blocks())
        end(at, Outcome::sent, now_ms);
    else
        send_window(at, now_ms);
}

void Server::tick(std::uint64_t now_ms) {
    for (auto at = transfers_.begin(); at != transfers_.end();) {
        auto& transfer = at->second;
        auto next = std::next(at);
        if (now_ms - transfer.began_ms >= limits::max_tftp_transfer_ms)
            end(at, Outcome::silent, now_ms, "it took too long");
        else if (now_ms - transfer.sent_ms < transfer.timeout_ms)
            ;
        else if (++transfer.tries >= limits::max_tftp_tries)
            end(at, Outcome::silent, now_ms);
        else
            send_window(at, now_ms);
        at = next;
    }
}

} // namespace vmhost::tftp
