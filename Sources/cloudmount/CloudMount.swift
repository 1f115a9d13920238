import ArgumentParser
import Logging

@main struct CloudMount: ParsableCommand { func run() {} }
