#include "role/metrics_page.h"

#include "metrics/metrics.h"

namespace vmhost::role {

namespace {

// Those who scrape are few; the others are not meant to get here.
constexpr std::size_t max_connections = 64;
constexpr std::size_t max_connections_per_address = 16;

http::Options options() {
    http::Options out;
    out.max_connections = max_connections;
    out.max_connections_per_address = max_connections_per_address;
    return out;
}

} // namespace

MetricsPage::MetricsPage(Loop& loop, std::function<void()> wanted)
    : loop_(loop), wanted_(std::move(wanted)),
      server_(loop, options(), [this](const http::Request& request) { return asked(request); }) {
    page_.content_type = metrics::text_type;
}

std::optional<http::Response> MetricsPage::asked(const http::Request& request) {
    if (request.path != "/metrics")
        return http::error_response(404);
    if (made_ms_ && loop_.now_ms() - *made_ms_ < limits::metrics_interval_ms)
        return page_;
    waiting_.push_back(request.connection_id);
    if (!std::exchange(asking_, true))
        wanted_();
    return std::nullopt;
}

void MetricsPage::took(ipc::MetricsText text) {
    coming_ += text.part;
    if (!text.last)
        return;
    asking_ = false;
    page_.body = std::exchange(coming_, {});
    made_ms_ = loop_.now_ms();
    for (auto connection : std::exchange(waiting_, {}))
        server_.answer(connection, page_);
}

} // namespace vmhost::role
