/// One of AWS's clouds, each with regions, names and accounts of its own.
///
/// Source: `partitions.json` of the AWS SDKs (botocore 1.43.11).
struct S3Partition: Sendable, Equatable {
    /// As ARNs have it.
    var name: String
    /// The starts of its regions' names.
    var regions: [String]
    var suffix: String
    var dualStackSuffix: String
    /// Where its global services are signed for.
    var globalRegion: String
    /// `REGION.…`, of AWS Sign-In; nil: `signin.REGION.` and the suffix.
    var signIn: String?

    static let all = [
        S3Partition(
            name: "aws-cn", regions: ["cn-"], suffix: "amazonaws.com.cn",
            dualStackSuffix: "api.amazonwebservices.com.cn", globalRegion: "cn-northwest-1",
            signIn: "signin.amazonaws.cn"),
        S3Partition(
            name: "aws-us-gov", regions: ["us-gov-"], suffix: "amazonaws.com", dualStackSuffix: "api.aws",
            globalRegion: "us-gov-west-1", signIn: "signin.amazonaws-us-gov.com"),
        S3Partition(
            name: "aws-eusc", regions: ["eusc-"], suffix: "amazonaws.eu",
            dualStackSuffix: "api.amazonwebservices.eu", globalRegion: "eusc-de-east-1"),
        S3Partition(
            name: "aws-iso", regions: ["us-iso-"], suffix: "c2s.ic.gov", dualStackSuffix: "api.aws.ic.gov",
            globalRegion: "us-iso-east-1"),
        S3Partition(
            name: "aws-iso-b", regions: ["us-isob-"], suffix: "sc2s.sgov.gov", dualStackSuffix: "api.aws.scloud",
            globalRegion: "us-isob-east-1"),
        S3Partition(
            name: "aws-iso-e", regions: ["eu-isoe-"], suffix: "cloud.adc-e.uk",
            dualStackSuffix: "api.cloud-aws.adc-e.uk", globalRegion: "eu-isoe-west-1"),
        S3Partition(
            name: "aws-iso-f", regions: ["us-isof-"], suffix: "csp.hci.ic.gov",
            dualStackSuffix: "api.aws.hci.ic.gov", globalRegion: "us-isof-south-1"),
        aws,
    ]

    /// All other regions are of this one.
    static let aws = S3Partition(
        name: "aws", regions: [""], suffix: "amazonaws.com", dualStackSuffix: "api.aws", globalRegion: "us-east-1",
        signIn: "signin.aws.amazon.com")

    static func of(region: String) -> S3Partition {
        all.first { $0.regions.contains { region.hasPrefix($0) } } ?? aws
    }

    static func of(arn: String) -> S3Partition {
        let parts = arn.split(separator: ":", maxSplits: 2)
        return all.first { parts.count > 1 && parts[1] == $0.name } ?? aws
    }

    /// The host of a service in a region.
    /// - Parameter service: the first labels of its name, such as `sts` or `portal.sso`.
    static func host(_ service: String, region: String, dualStack: Bool = false, fips: Bool = false) -> String {
        let partition = of(region: region)
        return "\(service)\(fips ? "-fips" : "").\(region)."
            + (dualStack ? partition.dualStackSuffix : partition.suffix)
    }
}
