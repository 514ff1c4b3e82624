package soultribetest

var maintenanceTests = []conformanceTest{}
