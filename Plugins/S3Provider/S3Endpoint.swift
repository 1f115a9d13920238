import CloudMountKit

/// Where one bucket's requests go.
struct S3Endpoint: Sendable, Equatable {
    var https: Bool
    /// Name or literal, IPv6 in brackets, without bucket and port.
    var host: String
    /// Nil: the scheme's own.
    var port: Int?
    /// Before the bucket in the path, such as `/storage/v1/s3`; usually empty.
    var basePath = ""
    var bucket: String
    var pathStyle: Bool

    /// The host with the bucket, where that is a part of it.
    private var name: String { pathStyle ? host : "\(bucket).\(host)" }

    /// What the `Host` header says.
    var authority: String {
        port.map { "\(name):\($0)" } ?? name
    }

    /// The escaped path of the bucket, without a slash at its end; empty for a host of its own.
    var bucketPath: String { pathStyle ? "\(basePath)/\(bucket)" : basePath }

    /// What is sent there never leaves this machine.
    var isLoopback: Bool { WebURL(isTLS: https, host: name).isLoopback }

    var url: String { "\(https ? "https" : "http")://\(authority)" }
}

extension S3Endpoint {
    /// Reads `http://host[:port][/path]`.
    /// - Returns: nil when it is no such thing, or has user, query or fragment.
    init?(url text: String, bucket: String, pathStyle: Bool) {
        guard let url = WebURL(text) else { return nil }
        https = url.isTLS
        (host, port, basePath) = (url.host, url.port, url.path)
        self.bucket = bucket
        self.pathStyle = pathStyle
    }

    /// AWS itself.
    static func aws(
        region: String, bucket: String, pathStyle: Bool, dualStack: Bool = false, fips: Bool = false
    ) -> S3Endpoint {
        S3Endpoint(
            https: true, host: awsHost(region: region, dualStack: dualStack, fips: fips), bucket: bucket,
            pathStyle: pathStyle)
    }

    private static func awsHost(region: String, dualStack: Bool, fips: Bool) -> String {
        "s3\(fips ? "-fips" : "").\(dualStack ? "dualstack." : "")\(region).\(S3Partition.of(region: region).suffix)"
    }

    /// The same bucket at AWS's host for `region`, when this is its host for another one; else this.
    func inRegion(_ region: String, from other: String) -> S3Endpoint {
        guard https else { return self }
        for (dualStack, fips) in [(false, false), (true, false), (false, true), (true, true)] {
            let known = [other, "us-east-1"].map { Self.awsHost(region: $0, dualStack: dualStack, fips: fips) }
            guard known.contains(host) || host == "s3.amazonaws.com" else { continue }
            return .aws(region: region, bucket: bucket, pathStyle: pathStyle, dualStack: dualStack, fips: fips)
        }
        return self
    }

    /// Whether requests for `other` may go here when the store says so: the same host, or another one of the same known vendor's.
    func isOfFamily(of other: S3Endpoint) -> Bool {
        if host == other.host { return true }
        let vendor = S3Profiles.forHost(host).name
        guard vendor != S3Profiles.generic.name, vendor == S3Profiles.forHost(other.host).name else { return false }
        // Below amazonaws.com are hosts of its customers too.
        return vendor != S3Profiles.aws.name
            || host.split(separator: ".").contains { $0 == "s3" || $0.hasPrefix("s3-") }
    }

    var isAddress: Bool {
        host.hasPrefix("[") || host.utf8.allSatisfy { $0 == 0x2E || 0x30...0x39 ~= $0 } || host == "localhost"
    }

    /// Whether a bucket can be a label before this host: a DNS name, and without dots under a wildcard certificate.
    static func isHostLabel(_ bucket: String, https: Bool) -> Bool {
        let bytes = bucket.utf8
        guard 3...63 ~= bytes.count, bytes.first != 0x2D, bytes.last != 0x2D else { return false }
        return bytes.allSatisfy {
            0x61...0x7A ~= $0 || 0x30...0x39 ~= $0 || $0 == 0x2D || ($0 == 0x2E && !https)
        }
    }
}
