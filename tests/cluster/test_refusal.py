"""The one test with a real Slurm that is short: a node that other jobs may share is refused."""


def test_a_shared_node_is_refused_by_name_before_anything_is_measured(study):
    study.configure(limits={"flag_only": False})
    job = study.submitted_shared()
    ended = study.cluster.ended(job)
    assert (ended["JobState"], ended["OverSubscribe"]) == ("FAILED", "OK")
    assert f"error: Slurm's job {job} does not have the node n" in study.said()
    assert "OverSubscribe=OK, 1 of 2 CPUs" in study.said()
    assert "limits.flag_only: true" in study.said()
    assert {each.name for each in study.results.iterdir()} == {"slurm"}
