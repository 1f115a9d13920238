// request-bench PORT [WIDTH] [REQUESTS] [ROUNDS] [CONTENDER]: what one small request costs, in CPU time of this process.
//
// GET of 4 KiB at random places of an object, HEAD of it and PUT of 4 KiB, WIDTH at a time: by the S3 provider within its
// layers as a mount has it, by the provider alone, by the transport alone with signed requests made before, and by one bare
// libcurl multi loop. All take turns in each round; the ratios are medians of the rounds' own. With a
// CONTENDER (transport, provider, layers) that one alone makes its GETs, for a profiler. `requests.py` in
// `Tests/Bench` starts the server that it needs, and fills it.
import BareRequests
import CloudMountHTTP
import CloudMountLayers
import CloudMountVFS
import Glibc
import S3Provider

/// CPU seconds of the process.
func used() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

func padded(_ text: String, _ width: Int) -> String { String(repeating: " ", count: max(0, width - text.count)) + text }

func decimal(_ value: Double, _ places: Int) -> String {
    let scale = places == 1 ? 10 : 100
    let number = Int((value * Double(scale)).rounded())
    let rest = String(number % scale)
    return "\(number / scale).\(String(repeating: "0", count: places - rest.count))\(rest)"
}

func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

let numbers = CommandLine.arguments.dropFirst().compactMap { Int($0) }
guard let port = numbers.first else { fatalError("request-bench PORT [WIDTH] [REQUESTS] [ROUNDS]") }
let width = numbers.count > 1 ? numbers[1] : 16
let count = numbers.count > 2 ? numbers[2] : 10_000
let rounds = numbers.count > 3 ? numbers[3] : 5

var context = ProviderContext(mountName: "bench", bucket: "benchmark")
context.options["endpoint"] = .string("http://127.0.0.1:\(port)")
context.options["region"] = .string("us-east-1")
context.options["path_style"] = .boolean(true)
context.credentials["access_key_id"] = .string("bench")
context.credentials["secret_access_key"] = .string("bench")
let provider = try S3Provider.descriptor.make(context)
let layered = Layers.stack(provider, settings: LayerSettings(endpoint: EndpointLoad("bench"))).provider
try await provider.prepare(writable: true)
let object = try await provider.head(Requests.key)

if let only = CommandLine.arguments.dropFirst().first(where: { Int($0) == nil }) {
    let requests = Requests(verb: .get, port: port, object: object, width: width, count: count * rounds)
    let before = used()
    switch only {
    case "transport": try await requests.runByTransport(on: provider.executor)
    case "provider": try await requests.run(by: provider)
    default: try await requests.run(by: layered)
    }
    print("\(only): \(decimal((used() - before) * 1e6 / Double(count * rounds), 1)) µs of CPU a GET")
    exit(0)
}

print("CPU µs a request, \(width) at a time, \(count) a round, \(rounds) rounds; in brackets: of a bare libcurl loop")
print("verb        bare         transport          provider       with layers")
for verb in Verb.allCases {
    let requests = Requests(verb: verb, port: port, object: object, width: width, count: count)
    guard let loop = requests.openBareLoop() else { fatalError("no memory") }
    var times: [[Double]] = []
    // The first round warms up.
    for round in 0...rounds {
        var ends = [used()]
        let code = bare_run(loop, count)
        if code != 0 { fatalError("the bare loop failed: \(code)") }
        ends.append(used())
        try await requests.runByTransport(on: provider.executor)
        ends.append(used())
        try await requests.run(by: provider)
        ends.append(used())
        try await requests.run(by: layered)
        ends.append(used())
        if round > 0 { times.append(zip(ends.dropFirst(), ends).map { ($0 - $1) * 1e6 / Double(count) }) }
    }
    bare_close(loop)
    var line = verb.rawValue + String(repeating: " ", count: 5 - verb.rawValue.count)
    for contender in times[0].indices {
        line += padded(decimal(median(times.map { $0[contender] }), 1), 11)
        if contender > 0 { line += padded("(\(decimal(median(times.map { $0[contender] / $0[0] }), 2)))", 7) }
    }
    print(line)
}
